"""What the pages read, each through :func:`mobius_dashboards.clients.client_for` and cached by viewer policy.

Every public function takes the viewer (or a view, which has one) and asks the policy itself, before it looks
into the cache. Raw spans are read for one trace or a bounded window only; the rollup answers everything else.
"""

from mobius_dashboards.queries.cache import forget
from mobius_dashboards.queries.correlation import Correlation, correlation, findings
from mobius_dashboards.queries.detail import detail
from mobius_dashboards.queries.endpoint import Run, Shapes, Subject, runs, shapes
from mobius_dashboards.queries.examples import examples, generated
from mobius_dashboards.queries.lag import Lag, ask_lag, lag
from mobius_dashboards.queries.residency import Borders, borders
from mobius_dashboards.queries.traces import MOST_SPANS, trace
from mobius_dashboards.queries.zones import Facets, Health, facets, health

__all__ = [
    "MOST_SPANS",
    "Borders",
    "Correlation",
    "Facets",
    "Health",
    "Lag",
    "Run",
    "Shapes",
    "Subject",
    "ask_lag",
    "borders",
    "correlation",
    "detail",
    "examples",
    "facets",
    "findings",
    "forget",
    "generated",
    "health",
    "lag",
    "runs",
    "shapes",
    "trace",
]
