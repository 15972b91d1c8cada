"""Settings of the site: `sphinx-build -b html site build/site`, from the project's folder."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = html_title = "The DTL workbook"
# the last three are our own, in _ext/
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "finish", "sources"]

napoleon_use_rtype = False
autodoc_typehints = "none"  # they stand in the docstrings' words

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["workbook.css"]
html_js_files = ["workbook.js"]
html_search_scorer = str(HERE / "scorer.js")
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False  # with it the theme names a person
html_use_index = False
html_domain_indices = False

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # its default comes from a public server
nb_render_markdown_format = "myst"  # formulas in what a cell displays
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_update_mathjax = False
myst_heading_anchors = 6
myst_heading_slug_func = "finish.slug"
