"""Pages over loopback in the tests' browser, and what is asked of every one of them."""

import functools
import http.server
import threading
from contextlib import contextmanager


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def visit(browser, folder, name, width, scheme="light"):
    """Opens a page over loopback; gives it, and the list of what it asks for outside or does not get."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    page, troubles = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
    page.on("request", lambda r: r.url.startswith((home, "data:")) or troubles.append(f"asked for {r.url}"))
    page.on("response", lambda r: r.status < 400 or troubles.append(f"{r.status} for {r.url}"))
    page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
    try:
        page.goto(home + name)
        yield page, troubles
    finally:
        page.close()
        server.shutdown()
        server.server_close()


def overflow(page):
    """Pixels by which the page is wider than the window, and what sticks out of it without a box that scrolls."""
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            const boxed = e => { for (let p = e; p; p = p.parentElement)
                if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return true; return false; };
            const out = [...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > width + 1 && !boxed(e));
            return [document.documentElement.scrollWidth - width, out.map(e => e.outerHTML.slice(0, 80))];
        }"""
    )


def focused(page):
    """The element that has the keyboard: its tag, its text or label, and whether it is on the screen."""
    return page.evaluate(
        """() => { const e = document.activeElement, box = e.getBoundingClientRect();
            return [e.tagName.toLowerCase(), (e.innerText || e.getAttribute('aria-label') || '').trim(),
                    box.right > 0 && box.left < innerWidth && box.bottom > 0 && getComputedStyle(e).visibility === 'visible']; }"""
    )


def findings(page, axe):
    """What axe-core finds serious or critical: rule and first element."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [(v["id"], v["nodes"][0]["html"][:120]) for v in found if v["impact"] in ("serious", "critical")]
