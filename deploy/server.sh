#!/usr/bin/env bash
# Start the server (Flower's SuperLink): TLS for everybody, a registered key from every device.
#
#   deploy/server.sh KEYS STATE [HOST [PORT]]
#
# KEYS: folder with ca.crt, server.crt and server.key; STATE: folder of the server's database and
# working directory, created if missing; HOST: address to listen on, default 0.0.0.0; PORT: 8000.
set -euo pipefail
keys=$(realpath "${1:?folder of the keys}")
mkdir -p "${2:?folder of the state}"
cd "$2" # an empty folder: code that lies in the working directory would be imported
export FLWR_DISABLE_UPDATE_CHECK=1 FLWR_TELEMETRY_ENABLED=0
exec flower-superlink \
    --ssl-ca-certfile "$keys/ca.crt" \
    --ssl-certfile "$keys/server.crt" \
    --ssl-keyfile "$keys/server.key" \
    --enable-supernode-auth \
    --disable-runtime-dependency-installation \
    --database superlink.db \
    --host "${3:-0.0.0.0}" --port "${4:-8000}"
