import itertools

import pytest
import torch

from pruning.chapters.pixel_representatives import pixels


def morans_by_loops(image):
    rows, columns = image.shape
    mean = image.mean()
    top = weights = 0.0
    for (r, c), dr, dc in itertools.product(
        itertools.product(range(rows), range(columns)), (-1, 0, 1), (-1, 0, 1)
    ):
        if (dr or dc) and 0 <= r + dr < rows and 0 <= c + dc < columns:
            top += (image[r, c] - mean) * (image[r + dr, c + dc] - mean)
            weights += 1
    return (image.numel() / weights * top / (image - mean).square().sum()).item()


def test_morans_i_equals_the_double_sum():
    image = torch.rand(6, 9, dtype=torch.float64)
    assert pixels.morans_i(image) == pytest.approx(morans_by_loops(image))


def test_morans_i_knows_clusters_from_chance_and_a_chessboard():
    clustered = torch.zeros(10, 10)
    clustered[:5, :5] = 1
    chessboard = (torch.arange(10)[:, None] + torch.arange(10)) % 2
    null = pixels.shuffled_null(clustered, draws=200)
    assert pixels.morans_i(clustered) > null.max() + 0.3
    assert null.mean().item() == pytest.approx(-1 / 99, abs=0.02)
    assert pixels.morans_i(chessboard.float()) < 0.1
    assert pixels.morans_i(torch.ones(4, 4)) == 0


def test_the_null_can_stay_inside_a_region():
    image = torch.zeros(8, 8)
    image[2:6, 2:6] = torch.rand(4, 4)
    free, inside = (
        pixels.shuffled_null(image, 100),
        pixels.shuffled_null(image, 100, inside=image > 0),
    )
    assert inside.mean() > free.mean() + 0.2  # the region itself is a cluster
    assert torch.equal(
        pixels.shuffled_null(image, 5, seed=1), pixels.shuffled_null(image, 5, seed=1)
    )


def test_neighbour_ratio():
    assert pixels.neighbour_ratio(torch.ones(5, 5), top=25) == pytest.approx(1)
    single = torch.zeros(5, 5)
    single[2, 2], single[2, 3] = 8.0, 4.0
    assert pixels.neighbour_ratio(single, top=1) == pytest.approx(4 / 8 / 8)
    corner = torch.zeros(5, 5)
    corner[0, 0], corner[0, 1] = 3.0, 1.5  # three neighbours only
    assert pixels.neighbour_ratio(corner, top=1) == pytest.approx(0.5 / 3)


def test_central_share():
    assert pixels.central_share(torch.ones(28, 28), 14) == pytest.approx(0.25)
    image = torch.zeros(28, 28)
    image[7:21, 7:21] = 1
    assert pixels.central_share(image, 14) == 1
    assert pixels.central_share(image, 20) == 1


def binary(samples=200, size=7):
    torch.manual_seed(0)
    on = torch.rand(samples, size) < 0.5
    is_class = (on[:, 2] & on[:, 5]) ^ (torch.rand(samples) < 0.1)
    return on, is_class


def test_a_rule_is_counted():
    on, is_class = binary()
    rule = pixels.two_pixel_rule(on, is_class, (2, 5))
    picked = [bool(a and b) for a, b in on[:, [2, 5]].tolist()]
    hits = sum(p and c for p, c in zip(picked, is_class.tolist(), strict=True))
    assert rule.precision == hits / sum(picked)
    assert rule.recall == hits / int(is_class.sum())
    assert (
        rule.accuracy
        == sum(p == c for p, c in zip(picked, is_class.tolist(), strict=True)) / 200
    )
    assert rule.f1 == pytest.approx(2 * hits / (sum(picked) + int(is_class.sum())))


@pytest.mark.parametrize("measure", ["f1", "precision", "accuracy"])
@pytest.mark.parametrize("recall", [0.0, 0.5])
def test_the_best_rule_is_the_best_of_all_pairs(measure, recall):
    on, is_class = binary()
    rules = [
        pixels.two_pixel_rule(on, is_class, pair)
        for pair in itertools.combinations(range(7), 2)
    ]
    best = max(getattr(r, measure) for r in rules if r.recall >= recall)
    found = pixels.best_two_pixel_rule(on, is_class, measure, recall)
    assert getattr(found, measure) == pytest.approx(best)
    assert found.recall >= recall
    if measure == "f1":
        assert found.pixels == (2, 5)


@pytest.mark.parametrize("measure", ["f1", "precision", "accuracy"])
def test_the_best_rule_where_no_pair_stands_out(measure):
    for seed in range(20):
        torch.manual_seed(seed)
        on = torch.rand(60, 6) < torch.linspace(0.05, 0.9, 6)
        is_class = torch.rand(60) < 0.3
        pairs = itertools.combinations(range(6), 2)
        best = max(
            getattr(pixels.two_pixel_rule(on, is_class, pair), measure) for pair in pairs
        )
        found = pixels.best_two_pixel_rule(on, is_class, measure)
        assert getattr(found, measure) == pytest.approx(best)


def test_wrong_input_is_named():
    on, is_class = binary()
    with pytest.raises(ValueError, match="measure: got 'luck'"):
        pixels.best_two_pixel_rule(on, is_class, "luck")
    with pytest.raises(ValueError, match=r"recall: got 0\.999"):
        pixels.best_two_pixel_rule(on[:, :2], is_class, recall=0.999)
    with pytest.raises(ValueError, match=r"image: got shape \(4,\)"):
        pixels.morans_i(torch.ones(4))
    with pytest.raises(ValueError, match="side: got 9"):
        pixels.central_share(torch.ones(5, 5), 9)
    with pytest.raises(ValueError, match="top: got 0"):
        pixels.neighbour_ratio(torch.ones(5, 5), 0)


def test_precise_pairs_against_a_loop():
    on = torch.rand(60, 9, generator=torch.Generator().manual_seed(0)) < 0.3
    is_class = torch.arange(60) % 3 == 0
    expected = []
    for a, b in itertools.combinations(range(9), 2):
        both = on[:, a] & on[:, b]
        if both.any() and is_class[both].float().mean() >= 0.5:
            expected.append((int(both.sum()), int((both & is_class).sum())))
    assert 0 < len(expected) < 36
    assert pixels.precise_pairs(on, is_class, 0.5) == (len(expected), 36)
    picked, hits = pixels.picked_by_precise_pairs(on, is_class, 0.5)
    assert list(zip(picked.tolist(), hits.tolist(), strict=True)) == expected
    assert pixels.precise_pairs(torch.zeros(5, 4, dtype=torch.bool), is_class[:5], 0.5) == (
        0,
        6,
    )
