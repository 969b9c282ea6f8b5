"""Several batch norms: keys, routing, statistics."""

import copy

import pytest
import torch
from torch import nn

from skrobust.deep import add_branches, branches_of, route


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4),
        nn.BatchNorm1d(4),
    )  # fmt: skip


@pytest.fixture
def net():
    net = network()
    net(torch.randn(8, 1, 6, 6))
    return net


def statistics(net, branch):
    banks = [part for part in net.modules() if hasattr(part, "aux")]
    parts = [bank if branch == "clean" else bank.aux[branch] for bank in banks]
    return torch.cat([torch.cat([p.running_mean, p.running_var]) for p in parts])


def test_clean_keys_stay_and_a_plain_checkpoint_fits(net):
    plain = copy.deepcopy(net.state_dict())
    add_branches(net, ["one", "two"])
    assert branches_of(net) == ("one", "two")
    assert [key for key in net.state_dict() if ".aux." not in key] == list(plain)
    found = net.load_state_dict(plain, strict=False)
    assert not found.unexpected_keys
    assert all(".aux." in key for key in found.missing_keys)


def test_branches_start_as_copies_with_statistics(net):
    net.train()
    add_branches(net, ["one"])
    assert torch.equal(statistics(net, "one"), statistics(net, "clean"))
    assert not torch.equal(statistics(net, "clean")[:3], torch.zeros(3))


def test_one_mixed_forward_equals_separate_ones(net):
    add_branches(net, ["one", "two"])
    apart = copy.deepcopy(net)
    x = torch.randn(12, 1, 6, 6)
    sizes = [("clean", 6), ("one", 4), ("two", 2)]
    with route(net, sizes):
        together = net(x)
    parts = []
    for (name, _), part in zip(sizes, x.split([6, 4, 2]), strict=True):
        with route(apart, name):
            parts.append(apart(part))
    torch.testing.assert_close(together, torch.cat(parts))
    for name in ("clean", "one", "two"):
        torch.testing.assert_close(statistics(net, name), statistics(apart, name))


def test_only_the_branch_in_use_learns(net):
    add_branches(net, ["one"])
    before = statistics(net, "clean").clone()
    with route(net, "one"):
        net(torch.randn(8, 1, 6, 6)).sum().backward()
    assert torch.equal(statistics(net, "clean"), before)
    assert not torch.equal(statistics(net, "one"), before)
    assert net[1].weight.grad is None
    assert net[1].aux["one"].weight.grad is not None


def test_the_branch_is_restored_after_an_error(net):
    add_branches(net, ["one"])
    with (
        pytest.raises(ValueError, match="8 rows was routed by the sizes"),
        route(net, [("one", 3)]),
    ):
        net(torch.randn(8, 1, 6, 6))
    with pytest.raises(RuntimeError, match="stop"), route(net, "one"):
        raise RuntimeError("stop")
    assert net[1].branch == "clean"
    assert net[1].split is None


def test_a_batch_norm_that_is_used_twice_stays_one():
    norm = nn.BatchNorm1d(4)
    net = nn.ModuleDict({"a": norm, "b": nn.Sequential(nn.Linear(4, 4), norm)})
    add_branches(net, ["one"])
    assert net["a"] is net["b"][1]
    assert branches_of(net) == ("one",)


def test_a_module_without_a_bank_is_left_alone(net):
    with route(net, [("clean", 2), ("other", 6)]):
        net(torch.randn(8, 1, 6, 6))
    assert branches_of(net) == ()


def test_a_batch_norm_alone():
    bank = add_branches(nn.BatchNorm1d(2), ["one"])
    assert branches_of(bank) == ("one",)


@pytest.mark.parametrize(
    ("module", "names", "match"),
    [
        (nn.Linear(2, 2), ["one"], "must have batch norms"),
        (nn.BatchNorm1d(2), ["clean"], "none of them 'clean'"),
        (nn.BatchNorm1d(2), ["one", "one"], "must be different"),
        (nn.Sequential(nn.LazyBatchNorm1d()), ["one"], "LazyBatchNorm1d; branches are known"),
        (add_branches(nn.BatchNorm1d(2), ["one"]), ["two"], "has branches"),
    ],
)
def test_bad_modules_and_names(module, names, match):
    with pytest.raises(ValueError, match=match):
        add_branches(module, names)


def test_unknown_branch(net):
    add_branches(net, ["one"])
    with pytest.raises(ValueError, match="branch must be one of"), route(net, "two"):
        pass


def test_compiles_without_a_graph_for_each_batch(net):
    add_branches(net, ["one"])
    explanation = torch._dynamo.explain(net)(torch.randn(8, 1, 6, 6))
    assert explanation.graph_break_count == 0
