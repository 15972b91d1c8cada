"""What a picture says, for tests of pictures."""


def texts(figure):
    """Every text that is written into the axes of a figure."""
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def text_of(figure):
    """All letters of a figure, once it is drawn."""
    figure.canvas.draw()
    words = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")) if t.get_visible()]
    return " | ".join(words)
