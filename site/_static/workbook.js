// What the Tab key needs and furo leaves out: boxes that scroll can be reached, and the two drawers open from the keyboard.
"use strict";

function reachWhatScrolls() {
  const boxes = document.querySelectorAll("article pre, article .wide, article .maths, article .table-wrapper, article figure > div");
  for (const box of boxes) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

function drawers() {
  const skip = document.querySelector(".skip-to-content");
  if (skip) document.body.prepend(skip);  // the first stop of the Tab key
  for (const [id, drawer] of [["__navigation", ".sidebar-drawer"], ["__toc", ".toc-drawer"]]) {
    const toggle = document.getElementById(id);
    if (!toggle) continue;
    toggle.disabled = id === "__toc" && document.querySelector(".toc-drawer.no-toc") !== null;  // a page without headings
    toggle.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle.checked = !toggle.checked;
      if (toggle.checked) document.querySelector(`${drawer} :is(a, input)`)?.focus();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !toggle.checked) return;
      toggle.checked = false;
      toggle.focus();
    });
  }
}

document.addEventListener("DOMContentLoaded", () => {
  drawers();
  reachWhatScrolls();
});
window.addEventListener("load", reachWhatScrolls);  // pictures have their width now
window.addEventListener("resize", reachWhatScrolls);
document.addEventListener("toggle", reachWhatScrolls, true);  // what was folded has a width
