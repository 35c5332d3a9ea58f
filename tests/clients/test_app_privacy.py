"""The ClientApp as a server meets it: refusals, the ledger it keeps, and the bound that moves."""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from opacus.accountants import RDPAccountant

from clients import app as client_app
from clients.ledger_state import CLIPPING, load_clip_norm, load_ledger, save_clip_norm, save_ledger
from fnl.config import Scalar, parse_config
from fnl.data.federated import open_federation
from fnl.privacy.ledger import RDP_ORDERS, Ledger
from fnl.snn.network import build_network, initialise
from fnl.weights import get_weights
from fnl.wire import exchange
from fnl.wire.report import ClientReport

RELEASE: dict[str, Scalar] = {
    "evaluation.shadow": False, "privacy.rate-release": "gaussian", "privacy.rate-epsilon": 2.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _flower_identity(monkeypatch):
    """Let Flower build messages outside an engine."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def context_of(flat: dict[str, Scalar], partition: int = 2) -> Context:
    node = {"partition-id": partition, "num-partitions": 4}
    return Context(1, 1, node, RecordDict(), parse_config(flat).flat())


def ask(context: Context, server_round: int = 1) -> RecordDict:
    """Ask the app to train from the first global model, and return what it replies."""
    config = parse_config(context.run_config)
    federation = open_federation(config)
    network = build_network(config.model, federation.inputs, federation.classes)
    initialise(network, 0)
    content = RecordDict(
        {
            exchange.ARRAYS: exchange.to_arrays(get_weights(network)),
            exchange.CONFIG: ConfigRecord({exchange.ROUND: server_round}),
        }
    )
    message = Message(content, dst_node_id=2, message_type="train")
    return client_app.app(message, context).content


def test_a_spent_budget_is_answered_by_a_reason_and_nothing_else(small_config):
    context = context_of({**small_config, **RELEASE})
    save_ledger(context.state, Ledger().spend(0.7, 0.5, 40))
    before = load_ledger(context.state)
    reply = ask(context)
    assert list(reply) == [exchange.REFUSAL]
    assert "privacy.epsilon = 8 is spent" in str(reply[exchange.REFUSAL]["reason"])  # type: ignore[call-overload]
    assert load_ledger(context.state) == before


def test_rounds_add_up_to_one_opacus_accountant_fed_the_same_history(small_config):
    # a ledger made anew each round would report the same epsilon twice
    context, accountant = context_of({**small_config, **RELEASE}), RDPAccountant()
    for server_round in (1, 2):
        record = ask(context, server_round)[exchange.METRICS]
        assert isinstance(record, MetricRecord)
        report = ClientReport.from_record(record)
        for _ in range(report.steps):
            accountant.step(
                noise_multiplier=report.noise_multiplier, sample_rate=report.sample_rate
            )
        rates = report.rate_noise * report.num_examples / 0.5
        accountant.step(noise_multiplier=rates, sample_rate=1.0)
        expected, _ = accountant.get_privacy_spent(delta=1e-5, alphas=RDP_ORDERS)
        assert report.epsilon == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(8, rel=0.02)


def test_an_adaptive_bound_goes_on_where_the_last_round_left_it(small_config):
    flat = {**small_config, "evaluation.shadow": False, "privacy.clipping": "adaptive"}
    context = context_of(flat)
    ask(context, 1)
    first = load_clip_norm(context.state)
    ask(context, 2)
    second = load_clip_norm(context.state)
    alone = context_of(flat)
    ask(alone, 2)
    assert first is not None
    assert first != 5.0
    assert len({first, second, load_clip_norm(alone.state)}) == 3


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_damaged_bound_is_refused(value):
    state = RecordDict({CLIPPING: MetricRecord({"clip-norm": value})})
    with pytest.raises(ValueError, match="clipping bound"):
        load_clip_norm(state)
    save_clip_norm(state, 2.5)
    assert load_clip_norm(state) == 2.5
    save_clip_norm(state, None)
    assert load_clip_norm(state) == 2.5


def test_secure_noise_gives_other_weights_every_time_and_the_seed_the_same(small_config):
    flat = {**small_config, **RELEASE}

    def weights(secure: bool) -> bytes:
        reply = ask(context_of({**flat, "privacy.secure-noise": secure}))
        arrays = exchange.from_arrays(reply[exchange.ARRAYS])  # type: ignore[arg-type]
        return b"".join(value.tobytes() for value in arrays.values())

    assert weights(False) == weights(False)
    assert len({weights(True), weights(True), weights(False)}) == 3
