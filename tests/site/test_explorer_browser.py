"""The memory explorer in a browser: served as a page, and in notebook 09 in a real JupyterLab."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from dtl_book.notebooks.catalog import notebooks_dir
from dtl_core import DTLConfig
from dtl_core.memory import MIB, plan_training


def planned(method, inject_from=6):
    """The peak of the explorer's first setting, with another method or M."""
    options = {"config": DTLConfig(inject_from=inject_from), "recompute": "side"} if method == "dtl" else {}
    return plan_training(method, "vit_base_patch16_224", batch_size=32, **options).peak_bytes


@contextmanager
def program(arguments, port, log, **environment):
    """A server in a process of its own, until it listens; ended with the context."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with open(log, "w") as out:
        process = subprocess.Popen([sys.executable, *arguments], env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        for _ in range(900):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-2000:]
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def opened(browser, port, width=1280):
    """A page, and the list of addresses beyond this server that it asks for."""
    page, outside = browser.new_page(viewport={"width": width, "height": 900}), []
    page.set_default_timeout(180_000)  # a leash for a loaded machine
    page.on("request", lambda r: outside.append(r.url) if f"//127.0.0.1:{port}/" not in r.url[:30] else None)
    local = ("data:", "blob:", f"http://127.0.0.1:{port}/")
    page.on("request", lambda r: r.url.startswith(local) and r.url in outside and outside.remove(r.url))
    return page, outside


def shows(page, peak, within=""):
    strong = page.wait_for_selector(f'{within} strong[data-bytes="{peak}"]')
    assert strong.inner_text() == f"{peak / MIB:,.1f} MiB"


STICKS_OUT = """() => [...document.querySelectorAll('.jp-Cell *')].filter(
    e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide')).map(e => e.outerHTML.slice(0, 80))"""


def test_served_page_by_keyboard(browser, tmp_path):
    pytest.importorskip("voila", reason="Voila is not installed: pip install -e '.[workbook]'")
    port, log = free_port(), tmp_path / "voila.log"
    start = f"from dtl_book.explorer.panel import serve_explorer; serve_explorer({port}, open_browser=False)"
    with program(["-c", start], port, log):
        page, outside = opened(browser, port)
        page.goto(f"http://127.0.0.1:{port}/")
        shows(page, planned("dtl"))
        page.locator(".noUi-handle").focus()
        page.keyboard.press("ArrowRight")
        shows(page, planned("dtl", inject_from=7))
        page.get_by_label("Method").focus()
        page.keyboard.type("LoR")
        shows(page, planned("lora"))
        assert not page.locator(".noUi-handle").is_visible(), "LoRA has no M"
        page.wait_for_selector("text=this saves the most: gradient checkpointing")
        assert page.evaluate("[...document.images].filter(e => !e.alt.trim() || !e.naturalWidth).length") == 0
        assert page.title() == "Memory explorer" and page.locator("h1").count() == 1
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(300)
            assert page.evaluate(STICKS_OUT) == []
        assert outside == []
        page.close()


def test_notebook_in_jupyterlab(browser, tmp_path):
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install -e '.[workbook]'")
    name, port = "09_the_memory_of_a_step.ipynb", free_port()
    root, settings = tmp_path / "root", tmp_path / "settings" / "@jupyterlab"
    root.mkdir()
    shutil.copy(notebooks_dir() / name, root / name)
    for plugin, content in {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "docmanager-extension/plugin": {"autosave": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }.items():
        path = settings / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    folders = {"CONFIG": "JUPYTER_CONFIG_DIR", "DATA": "JUPYTER_DATA_DIR", "RUN": "JUPYTER_RUNTIME_DIR",
               "settings": "JUPYTERLAB_SETTINGS_DIR", "spaces": "JUPYTERLAB_WORKSPACES_DIR"}  # fmt: skip
    environment = {variable: str(tmp_path / folder) for folder, variable in folders.items()} | {"DTL_PROFILE": "smoke"}
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", f"--ServerApp.root_dir={root}",
               "--ServerApp.allow_root=True", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
               "--LabApp.expose_app_in_browser=True"]  # fmt: skip
    with program(["-m", "jupyterlab", *options], port, tmp_path / "lab.log", **environment):
        page, outside = opened(browser, port)
        page.goto(f"http://127.0.0.1:{port}/lab/tree/{name}?reset")
        page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.path")
        went = page.evaluate(
            """async () => {
                const app = window.jupyterapp;
                await app.restored;
                const notebook = app.shell.currentWidget;
                await notebook.context.ready;
                await notebook.sessionContext.ready;
                await notebook.sessionContext.session.kernel.info;
                await app.commands.execute('notebook:run-all-cells');
                return [...notebook.content.widgets].filter(c => c.model.type === 'code').map(c => c.model.executionCount);
            }"""
        )
        assert went == list(range(1, len(went) + 1)) and len(went) > 20, "every cell ran, to the end"
        assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
        shows(page, planned("dtl"), ".jp-OutputArea")
        page.locator(".jp-OutputArea .noUi-handle").focus()
        page.keyboard.press("ArrowRight")
        shows(page, planned("dtl", inject_from=7), ".jp-OutputArea")
        assert outside == []
        page.close()
