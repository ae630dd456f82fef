def test_classes_that_share_the_highest_logit_share_the_answer() -> None:
    """Whatever their order: a network that always says the same is right by chance only."""
    torch = pytest.importorskip("torch")
    out = torch.tensor([[1.0, 1.0, 0.0, 1.0], [2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    labels = torch.tensor([1, 0, 3, 2])
    assert study.answers(out, labels)["top1"].tolist() == [1 / 3, 1.0, 1 / 4, 0.0]
    order = torch.tensor([3, 2, 1, 0])
    assert study.answers(out[:, order], 3 - labels)["top1"].tolist() == [1 / 3, 1.0, 1 / 4, 0.0]
    many = torch.zeros(2, 10)
    many[1, 4:] = 1
    assert study.answers(many, torch.tensor([9, 9]))["top5"].tolist() == [1 / 2, 5 / 6]
    assert study.answers(torch.full((1, 4), float("nan")), torch.tensor([0]))["top1"].isnan().all()
