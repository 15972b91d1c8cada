"""Accuracy, held to counts made by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from toys import SHORT, ToyImages, toy_model

from dtl_core.training import Evaluation, NonFiniteLoss, PrefixCache, evaluate, fit

QUIET = dict(device="cpu", progress=False)


class Says(nn.Module):
    """Gives each image the class that is painted into its first pixel."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.modes, self.sizes = classes, [], []
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        self.modes.append(self.training)
        self.sizes.append(len(images))
        return self.scale * 3.0 * nn.functional.one_hot(images[:, 0, 0, 0].long(), self.classes).float()


def painted(labels, said):
    return [(torch.full((3, 2, 2), float(s)), label) for label, s in zip(labels, said, strict=True)]


def test_accuracies_against_hand_counts():
    # class 0: 5 of 6 right; class 1: 1 of 2; class 2: 0 of 1
    labels = [0, 0, 0, 0, 0, 0, 1, 1, 2]
    said = [0, 0, 0, 0, 0, 1, 1, 0, 0]
    score = evaluate(Says(3), painted(labels, said), batch_size=4, **QUIET)
    assert score.accuracy == pytest.approx(6 / 9)
    assert score.balanced_accuracy == pytest.approx((5 / 6 + 1 / 2 + 0) / 3)
    # logits are 3 for the class that is said and 0 for the two others
    right, wrong = -np.log(np.exp(3) / (np.exp(3) + 2)), -np.log(1 / (np.exp(3) + 2))
    assert score.loss == pytest.approx((6 * right + 3 * wrong) / 9, rel=1e-6)
    assert score.labels.tolist() == labels and score.predictions.tolist() == said


@pytest.mark.filterwarnings("error")
def test_balanced_accuracy_is_over_the_classes_that_occur():
    score = evaluate(Says(4), painted([0, 0, 1], [0, 3, 1]), **QUIET)  # 3 is said, and no image is of class 3
    assert score.balanced_accuracy == pytest.approx((1 / 2 + 1) / 2)


def test_every_image_counts_once_whatever_the_batch():
    model, data = toy_model("dtl"), ToyImages(11)
    scores = [evaluate(model, data, batch_size=b, **QUIET) for b in (1, 4, 64)]
    for score in scores:
        assert score.labels.tolist() == data.labels.tolist()
        assert score.accuracy == (score.labels == score.predictions).mean()
        assert score.loss == pytest.approx(scores[0].loss, rel=1e-5)
    seen = Says(4)
    evaluate(seen, painted([0] * 11, [0] * 11), batch_size=4, **QUIET)
    assert seen.sizes == [4, 4, 3]


@pytest.mark.parametrize("training", [True, False])
def test_it_runs_in_eval_mode_without_gradients_and_puts_the_mode_back(training):
    model = Says(2).train(training)
    evaluate(model, painted([0, 1], [0, 1]), **QUIET)
    assert model.modes == [False] and model.training is training
    assert model.scale.grad is None


def test_an_empty_data_set_is_an_error():
    with pytest.raises(ValueError, match="no images to evaluate on"):
        evaluate(Says(2), [], **QUIET)


def test_fp16_is_refused_on_the_cpu():
    with pytest.raises(ValueError, match="fp16 needs.*CUDA"):
        evaluate(Says(2), painted([0], [0]), precision="fp16", **QUIET)


def test_a_cache_is_taken_in_the_place_of_images(tmp_path):
    model, data = toy_model("dtl+", "toy/swin"), ToyImages(6, 64)
    cached = evaluate(model, PrefixCache(model, data, root=tmp_path, **QUIET), batch_size=4, **QUIET)
    assert cached.labels.tolist() == data.labels.tolist()
    assert cached.loss == pytest.approx(evaluate(model, data, **QUIET).loss, rel=1e-5)


def test_the_bar_is_on_stderr_and_can_be_switched_off(capsys):
    evaluate(Says(2), painted([0, 1], [0, 1]), device="cpu", progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "evaluating" in err
    evaluate(Says(2), painted([0, 1], [0, 1]), **QUIET)
    assert capsys.readouterr() == ("", "")


def test_the_answer_may_be_sought_among_some_classes():
    class Ranks(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return self.scale * images[:, 0, 0, :]

    # logits over four classes in the first row of each image; classes 1 and 3 occur
    logits = [([9, 5, 8, 4], 1), ([1, 2, 7, 3], 3), ([0, 6, 1, 2], 3), ([2, 1, 0, 5], 3)]
    images = [(torch.tensor(row, dtype=torch.float32).expand(3, 1, 4), label) for row, label in logits]
    score = evaluate(Ranks(), images, batch_size=3, within=(1, 3), **QUIET)
    assert score.accuracy == 1 / 4 and score.accuracy_within == 3 / 4
    assert score.predictions.tolist() == [0, 2, 1, 3], "the masked answer does not replace the other"
    assert evaluate(Ranks(), images, **QUIET).accuracy_within is None


class Named(list):
    """Images with names of their classes."""

    def __init__(self, names, labels, said):
        super().__init__(painted(labels, said))
        self.class_names, self.classes = names, len(names)


def test_labels_are_matched_by_the_names_of_the_classes():
    model = Says(3)
    model.class_names = ("ant", "bee", "cat")
    data = Named(("cat", "ant", "bee"), labels=[0, 1, 2, 2], said=[2, 0, 1, 0])
    score = evaluate(model, data, batch_size=3, **QUIET)
    assert score.labels.tolist() == [2, 0, 1, 1] and score.accuracy == 3 / 4
    for names in (("0", "1", "2"), ("ant", "bee", "cat")):  # plain numbers are no names
        assert evaluate(model, Named(names, [2, 0, 1], [2, 0, 0]), **QUIET).labels.tolist() == [2, 0, 1]
    model.class_names = tuple(map(str, range(3)))
    assert evaluate(model, Named(("2", "0", "1"), [0], [2]), **QUIET).accuracy == 1


@pytest.mark.parametrize(
    "names, message",
    [
        (
            ("ant", "bee", "dog", "e\x1b"),
            r"have 4 classes and the model 3.*only the images: 'dog', 'e\\x1b'; only the model: 'cat'",
        ),
        (("ant", "bee"), "only the model: 'cat'"),
        (("ant", "bee", "cat", "cat"), "two share a name"),
        (("0", "1"), "have 2 classes, and the model has 3"),
        (("0", "1", "2", "3"), "have 4 classes, and the model has 3"),
    ],
)
def test_other_classes_than_the_models_are_an_error(names, message):
    model = Says(3)
    model.class_names = ("ant", "bee", "cat")
    with pytest.raises(ValueError, match=message):
        evaluate(model, Named(names, [0, 1], [0, 1]), **QUIET)


def test_a_label_beyond_the_head_is_told():
    with pytest.raises(ValueError, match="have 8 classes, and the model has 3"):
        evaluate(Says(3), painted([0, 7], [0, 1]), **QUIET)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", ["dtl", "lora"])
def test_an_image_that_is_not_finite_is_told_by_its_place(method, value, tmp_path):
    model, data = toy_model(method), ToyImages(11)
    data.images[6, 1, 5, 5] = value
    with pytest.raises(ValueError, match="answer for image 6 is NaN or infinite: look for such pixels"):
        evaluate(model, data, batch_size=4, **QUIET)
    with pytest.raises(NonFiniteLoss, match="look at the images"):
        fit(model, data, SHORT, **QUIET)


def test_numbers_by_class_and_of_calibration_against_hand_counts():
    # probabilities of two classes: the bin of 0.9 has 3 images of which 2 are right, that of 0.6 has 1, which is wrong
    sure = np.log(np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.4, 0.6]]))
    score = Evaluation(0.5, 0.5, 0.0, np.array([0, 1, 1, 0]), sure.argmax(1), None, sure)
    assert score.confusion().tolist() == [[1, 1], [1, 1]]
    rows = score.calibration()
    assert rows.images.sum() == 4 and len(rows) == 15
    assert rows.dropna()[["images", "confidence", "accuracy"]].to_numpy() == pytest.approx(
        np.array([[1, 0.6, 0], [3, 0.9, 2 / 3]])
    )
    assert score.calibration_error() == pytest.approx((1 * 0.6 + 3 * (0.9 - 2 / 3)) / 4)
    labels, said = np.array([0, 0, 0, 2]), np.array([0, 0, 1, 0])
    table = Evaluation(0.5, 0.5, 0.0, labels, said, None, np.eye(3)[said]).per_class(tuple("abc"))
    assert table["class"].tolist() == ["a", "b", "c"] and table.images.tolist() == [3, 0, 1]
    nan = float("nan")
    for column, wanted in {"recall": [2 / 3, nan, 0], "precision": [2 / 3, 0, nan], "f1": [2 / 3, 0, 0]}.items():
        assert table[column].tolist() == pytest.approx(wanted, nan_ok=True)
    with pytest.raises(ValueError, match="logits=True"):
        Evaluation(0.5, 0.5, 0.0, labels, said).confusion()


def test_logits_are_kept_on_request():
    model, data = toy_model("dtl"), ToyImages(6)
    score = evaluate(model, data, batch_size=4, logits=True, **QUIET)
    torch.testing.assert_close(torch.tensor(score.logits), model(data.images).detach())
    assert evaluate(model, data, **QUIET).logits is None
