"""Typefaces: faces that differ, letters that stand in one split, nothing but the face that tells the class."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from dtl_book.standins.typefaces import FACES, LETTER, LETTERS, SIZES, build_typefaces, glyph
from dtl_core.data import FewShot
from dtl_core.data.fewshot import SEEDS, SHOTS

ALL = "".join(LETTERS.values())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("few-shot")
    assert build_typefaces(root / "typefaces", SIZES["smoke"], 0)
    return root


def drawn(face, letter, side=400):
    return np.asarray(glyph(face, letter, side * 0.4, (side / 2, side / 2), side), dtype=np.float32) / 255


def test_there_are_at_least_twenty_faces_and_each_has_every_letter():
    assert len(FACES) == len(set(FACES.values())) >= 20
    for face in FACES:
        font = font_manager.get_font(font_manager.cbook._get_data_path("fonts", "ttf", f"{face}.ttf"))
        assert all(font.get_char_index(ord(letter)) for letter in ALL)
        pictures = [drawn(face, letter, side=64) for letter in ALL]
        assert len({p.tobytes() for p in pictures}) == len(ALL)  # no box in the place of a glyph


def test_no_two_faces_draw_a_letter_alike():
    for letter in ALL:
        pictures = {face: drawn(face, letter) for face in FACES}
        for one, two in combinations(FACES, 2):
            a, b = pictures[one], pictures[two]
            assert np.abs(a - b).sum() > 0.058 * np.maximum(a, b).sum(), (letter, one, two)


def test_letters_stand_in_one_split_both_cases_together():
    counts = Counter(ALL)
    assert set(counts.values()) == {1} and len(counts) == 46
    where = {letter: split for split, letters in LETTERS.items() for letter in letters}
    assert all(where[letter] == where.get(letter.upper(), where[letter]) for letter in ALL)
    assert len(LETTERS["train"]) >= max(SHOTS)  # no letter twice in one draw of a face


def test_lists_and_counts(root):
    size = SIZES["smoke"]
    for seed in SEEDS:
        draws = [FewShot(root, "typefaces", "train", shots=shots, seed=seed) for shots in SHOTS]
        for shots, data in zip(SHOTS, draws, strict=True):
            assert np.bincount(data.targets).tolist() == [shots] * size.faces
            assert set(data.samples) <= set(draws[-1].samples)  # fewer shots are the first of more
    splits = [FewShot(root, "typefaces", "train", seed=seed) for seed in SEEDS]
    splits += [FewShot(root, "typefaces", split) for split in ("val", "test")]
    paths_ = [path for data in splits for path, _ in data.samples]
    assert len(paths_) == len(set(paths_)) == len(list(root.rglob("*.png")))
    assert [len(data) for data in splits[3:]] == [size.faces * len(LETTERS[s]) for s in ("val", "test")]
    for data in splits:
        list(data)
        assert data.class_names == tuple(FACES.values())[: size.faces]
        image = Image.open(data.samples[0][0])
        assert image.mode == "L" and image.size == (32, 32)


def test_greys_do_not_tell_the_face(root):
    """Ink and paper vary alike: no face's mean level stands out from the others' by more than their spread."""
    levels = {label: [] for label in range(SIZES["smoke"].faces)}
    for split, seed in (("train", 0), ("train", 1), ("train", 2), ("val", 0), ("test", 0)):
        for path, label in FewShot(root, "typefaces", split, seed=seed).samples:
            pixels = np.asarray(Image.open(path)).astype(int)
            levels[label].append((pixels.max(), pixels.min()))
    paper = np.array([np.mean(v, axis=0)[0] for v in levels.values()])
    assert np.ptp(paper) < 10 and all(LETTER.paper[0] <= p <= LETTER.paper[1] for p in paper)
