"""Which classes two models take for which."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from dtl_core.display.predictions import mistakes_table, plot_mistakes

NAMES = ("zero", "one", "two")


@pytest.fixture
def answers():
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    return labels, {
        "probe": np.array([0, 1, 1, 1, 0, 1, 0, 0, 0, 2]),
        "DTL": np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 0]),
    }


def test_table_names_the_most_frequent_first(answers):
    table = mistakes_table(*answers, NAMES)
    assert table["probe"].tolist() == [
        "two taken for zero: 3 images",
        "zero taken for one: 2 images",
        "one taken for zero: 1 image",
    ]
    assert table["DTL"].tolist() == ["two taken for zero: 1 image", "–", "–"]


def test_picture_holds_the_wrong_answers_alone(answers):
    labels, said = answers
    figure = plot_mistakes(labels, said, NAMES)
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["probe: 6 wrong", "DTL: 1 wrong"]
    for ax, predictions in zip(panels, said.values(), strict=True):
        wrong = confusion_matrix(labels, predictions)
        np.fill_diagonal(wrong, 0)
        drawn = np.asarray(ax.collections[0].get_array()).reshape(3, 3)
        assert (drawn == wrong).all() and ax.collections[0].get_clim() == (0, 3), "one scale for both"
        written = [text.get_text() for text in ax.texts if text.get_text()]
        assert written == [str(count) for count in wrong.flat if count]
        assert [label.get_text() for label in ax.get_yticklabels()] == list(NAMES)
