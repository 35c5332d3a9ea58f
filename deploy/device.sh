#!/usr/bin/env bash
# Start a device (Flower's SuperNode) that holds the clips of one client.
#
#   deploy/device.sh SERVER CA KEY DATA STATE PARTITION [PORT]
#
# SERVER: host:port of the server; CA: its ca.crt; KEY: this device's private key; DATA: folder of
# its clips, <label>/<speaker>_<anything>.wav; STATE: folder for features and the privacy ledger, to
# be kept as long as the clips are; PARTITION: this client's number, 0 to data.clients - 1; PORT: a
# free local one, default 9094. FNL_EPSILON_BUDGET: the most that its clips may ever cost; with it the
# device takes part in nothing that its ledger does not cover. FNL_FRAME_HOP_MS: its own time step, where
# the run's clients differ in it (data.frame-hops). FNL_TRIES: how often it asks to be let
# in, default 12, about two minutes.
set -euo pipefail
server=${1:?host:port of the server}
certificate=$(realpath "${2:?ca.crt of the server}")
key=$(realpath "${3:?private key of this device}")
data=$(realpath "${4:?folder of the clips}")
mkdir -p "${5:?folder of the state}"
state=$(realpath "$5")
chmod 700 "$state"
node="data-root=\"$data\" state-dir=\"$state\" partition-id=${6:?number of this client}"
if [ -n "${FNL_EPSILON_BUDGET:-}" ]; then
    node="$node epsilon-budget=$FNL_EPSILON_BUDGET"
fi
if [ -n "${FNL_FRAME_HOP_MS:-}" ]; then
    node="$node frame-hop-ms=$FNL_FRAME_HOP_MS"
fi
here=$(dirname "$(realpath "$0")")
python "$here/check_server.py" "$server" "$certificate"
mkdir -p "$state/work"
cd "$state/work" # an empty folder: code that lies in the working directory would be imported
export FLWR_HOME="$state/flower" FLWR_DISABLE_UPDATE_CHECK=1 FLWR_TELEMETRY_ENABLED=0
hint="not let in: this device's key is not registered, or the server has not yet missed it"
stop() {
    trap - TERM INT
    kill -TERM "$child" 2>/dev/null || true
    wait "$child" || true
    exit 143
}
# after a crash the server takes a device back only once it has missed it, which takes a minute
for ((tries = ${FNL_TRIES:-12}; tries > 0; tries--)); do
    flower-supernode \
        --superlink "$server" \
        --root-certificates "$certificate" \
        --auth-supernode-private-key "$key" \
        --port "${7:-9094}" \
        --node-config "$node" \
        > >(exec sed -u "/code: 2004/s/\$/ ($hint)/") 2>&1 &
    child=$!
    trap stop TERM INT
    status=0
    wait "$child" || status=$?
    if [ "$status" -eq 0 ]; then
        exit 0
    fi
    if [ "$tries" -gt 1 ]; then
        sleep 8
    fi
done
exit "$status"
