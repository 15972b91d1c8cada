"""What a picture says, for tests of pictures."""


def texts(figure):
    """Every text that is written into the axes of a figure."""
    return [text.get_text() for ax in figure.axes for text in ax.texts]
