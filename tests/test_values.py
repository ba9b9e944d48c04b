"""GAE, whitening, the value loss and the adapted KL weight: by hand and against stable-baselines3."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from dreamgym_env.trainers.losses import adapted_kl_coef, gae, value_loss, whiten  # noqa: E402


def test_gae_by_hand() -> None:
    # Two units, reward 1 at the end, values 0.5 and 0.25, gamma 0.9, lambda 0.5, no bootstrap:
    # delta_1 = 1 - 0.25 = 0.75; delta_0 = 0.9 * 0.25 - 0.5 = -0.275; A_0 = -0.275 + 0.45 * 0.75 = 0.0625.
    rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    found = gae(rewards, values, mask, torch.zeros(1), 0.9, 0.5)
    assert found[0].tolist() == pytest.approx([0.0625, 0.75])
    # Cut off in a state of value 2 instead: delta_1 = 1 + 1.8 - 0.25 = 2.55; A_0 = -0.275 + 0.45 * 2.55 = 0.8725.
    found = gae(rewards, values, mask, torch.tensor([2.0]), 0.9, 0.5)
    assert found[0].tolist() == pytest.approx([0.8725, 2.55])


def test_gae_at_its_ends() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    mask, end = torch.ones(3, 5, dtype=torch.bool), torch.randn(3, generator=generator)
    # Lambda 1: the return minus the value. Lambda 0: the one-step error.
    returns = torch.stack([rewards[:, u:].sum(1) + end for u in range(5)], 1)
    torch.testing.assert_close(gae(rewards, values, mask, end, 1.0, 1.0), returns - values)
    following = torch.cat([values[:, 1:], end[:, None]], 1)
    torch.testing.assert_close(gae(rewards, values, mask, end, 0.9, 0.0), rewards + 0.9 * following - values)


def test_gae_passes_over_what_is_not_a_response() -> None:
    # Tokens of the environment between and behind the turns, with values and rewards that must not count.
    rewards = torch.tensor([[9.0, 0, 9, 9, 1, 9]])
    values = torch.tensor([[7.0, 0.5, 7, 7, 0.25, 7]])
    mask = torch.tensor([[False, True, False, False, True, False]])
    found = gae(rewards, values, mask, torch.tensor([2.0]), 0.9, 0.5)
    assert found[0].tolist() == pytest.approx([0, 0.8725, 0, 0, 2.55, 0])


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.99, 0.95), (0.8, 0.3)])
def test_gae_equals_stable_baselines(gamma: float, lam: float) -> None:
    """Several episodes in a row of one environment there are several rows here; the last one is cut off."""
    np = pytest.importorskip("numpy")
    gymnasium = pytest.importorskip("gymnasium")
    buffers = pytest.importorskip("stable_baselines3.common.buffers", reason="the reference (extra `test`)")
    lengths, rng = [3, 1, 5, 4], np.random.default_rng(0)
    total = sum(lengths)
    rewards, values, last = rng.normal(size=total), rng.normal(size=total), 0.7
    space = gymnasium.spaces.Box(-1, 1, (1,))
    buffer = buffers.RolloutBuffer(total, space, space, "cpu", gae_lambda=lam, gamma=gamma, n_envs=1)
    starts = {sum(lengths[:number]) for number in range(len(lengths))}
    for step in range(total):
        value = torch.tensor([values[step]], dtype=torch.float32)
        zero, start = np.zeros((1, 1)), np.array([step in starts])
        buffer.add(zero, zero, np.array([rewards[step]]), start, value, torch.zeros(1))
    buffer.compute_returns_and_advantage(torch.tensor([last]), np.array([False]))
    rows = {"rewards": torch.zeros(4, 5), "values": torch.zeros(4, 5), "theirs": torch.zeros(4, 5)}
    mask = torch.zeros(4, 5, dtype=torch.bool)
    for row, (start, length) in enumerate(zip(sorted(starts), lengths, strict=True)):
        mask[row, :length] = True
        sources = (rewards, values, buffer.advantages[:, 0])
        for name, source in zip(rows, sources, strict=True):
            rows[name][row, :length] = torch.tensor(source[start : start + length], dtype=torch.float32)
    bootstrap = torch.tensor([0, 0, 0, last])
    ours = gae(rows["rewards"], rows["values"], mask, bootstrap, gamma, lam)
    torch.testing.assert_close(ours, rows["theirs"], atol=1e-5, rtol=1e-5)


def test_whitening_by_hand() -> None:
    # 1 and 3: mean 2, variance 2 with Bessel, so -+ 1 / sqrt(2); what is masked counts for nothing.
    values, mask = torch.tensor([[1.0, 3.0, 100.0]]), torch.tensor([[True, True, False]])
    assert whiten(values, mask)[0].tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5, 0.0])
    assert whiten(values, torch.tensor([[True, False, False]]))[0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("value", "loss", "decided"),
    [
        (1.2, 0.5 * 0.8**2, False),  # near the old value 1: its own error
        (1.9, 0.5 * 0.5**2, True),  # near the return 2 but kept at 1.5
        (0.0, 0.5 * 2.0**2, False),  # kept at 0.5, whose error is smaller: its own counts
    ],
)
def test_value_loss_by_hand(value: float, loss: float, decided: bool) -> None:
    found = value_loss(torch.tensor([[value]]), torch.tensor([[1.0]]), torch.tensor([[2.0]]), 0.5)
    assert found.loss_BT.item() == pytest.approx(loss)
    assert bool(found.clipped_BT) is decided
    free = value_loss(torch.tensor([[value]]), torch.tensor([[1.0]]), torch.tensor([[2.0]]), None)
    assert free.loss_BT.item() == pytest.approx(0.5 * (value - 2) ** 2)
    assert not free.clipped_BT.any()


def test_a_value_beyond_its_clip_has_no_slope() -> None:
    value = torch.tensor([[1.9, 1.2]], requires_grad=True)
    loss = value_loss(value, torch.ones(1, 2), torch.full((1, 2), 2.0), 0.5).loss_BT.sum()
    (gradient,) = torch.autograd.grad(loss, value)
    assert gradient[0].tolist() == pytest.approx([0.0, -0.8])


def test_the_kl_weight_follows_its_target() -> None:
    # 10% too high in 100 of 1000 episodes: x (1 + 0.1 * 0.1); far too high or low counts as 20%.
    assert adapted_kl_coef(0.5, 0.11, 0.1, 100, 1000) == pytest.approx(0.5 * 1.01)
    assert adapted_kl_coef(0.5, 9.0, 0.1, 100, 1000) == pytest.approx(0.5 * 1.02)
    assert adapted_kl_coef(0.5, 0.0, 0.1, 1000, 1000) == pytest.approx(0.5 * 0.8)
    assert adapted_kl_coef(0.5, 0.1, 0.1, 1000, 1000) == 0.5
