"""Which classes two models take for which."""

import numpy as np

from dtl_book.figures.predictions import mistakes_table, plot_mistakes

NAMES = ("zero", "one", "two")
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
SAID = {"probe": np.array([0, 1, 1, 1, 0, 1, 0, 0, 0, 2]), "DTL": np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 0])}


def test_table_names_the_most_frequent_first():
    probe = ["two taken for zero: 3 images", "zero taken for one: 2 images", "one taken for zero: 1 image"]
    table = mistakes_table(LABELS, SAID, NAMES)
    assert table["probe"].tolist() == probe and table["DTL"].tolist() == ["two taken for zero: 1 image", "–", "–"]


def test_picture_holds_the_wrong_answers_alone():
    figure = plot_mistakes(LABELS, SAID, NAMES)
    assert [ax.get_title() for ax in figure.axes] == ["probe: 6 wrong", "DTL: 1 wrong"]
    by_hand = ([[0, 2, 0], [1, 0, 0], [3, 0, 0]], [[0, 0, 0], [0, 0, 0], [1, 0, 0]])
    for ax, wrong in zip(figure.axes, by_hand, strict=True):
        assert np.asarray(ax.collections[0].get_array()).reshape(3, 3).tolist() == wrong
        assert ax.collections[0].get_clim() == (0, 3), "one scale for both"
        assert [text.get_text() for text in ax.texts if text.get_text()] == [str(n) for row in wrong for n in row if n]
