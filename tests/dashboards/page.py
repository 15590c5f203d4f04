"""A page of the dashboard, and everything that it sends to the browser."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

import mobius_dashboards

APP = str(Path(mobius_dashboards.__file__).with_name("app.py"))


# Of a zones.toml: ana sees single requests of a zone, ben its aggregates.
ROWS_AND_CELLS = """
[groups.rows]
spans = ["{zone}"]
[groups.cells]
aggregates = ["{zone}"]
[viewers]
ana = ["rows"]
ben = ["cells"]
"""


def whole(app: AppTest) -> str:
    """Everything that the page sends to the browser: texts, choices, and the data of charts."""
    assert not app.exception, app.exception
    sent = []
    nodes = [app._tree]
    while nodes:
        node = nodes.pop()
        nodes += getattr(node, "children", {}).values()
        if (proto := getattr(node, "proto", None)) is not None:
            sent.append(proto.SerializeToString())
    assert sent
    return b"\n".join(sent).decode("utf-8", errors="replace")
