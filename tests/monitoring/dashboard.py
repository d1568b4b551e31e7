"""Usage: python dashboard.py FILE: whether Grafana's own models know every field and every kind of panel in a dashboard.

They read the file and write it again. What they do not know is not in what they write. They do not look at the values of fields.
"""

import json
import sys

from grafana_foundation_sdk.cog import plugins, runtime
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(given, written, path=""):
    """The paths of what is not the same in both."""
    if isinstance(given, dict) and isinstance(written, dict):
        for name, value in given.items():
            yield from lost(value, written.get(name), f"{path}.{name}") if name in written else [f"{path}.{name}"]
    elif isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        for at, (value, other) in enumerate(zip(given, written)):
            yield from lost(value, other, f"{path}[{at}]")
    elif given != written:
        yield path


plugins.register_default_plugins()
with open(sys.argv[1], encoding="utf-8") as file:
    dashboard = json.load(file)
unknown = list(lost(dashboard, json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))))
kinds = {panel["type"] for panel in dashboard["panels"]} - {"row"}
unknown += sorted(kind for kind in kinds if runtime.panelcfg_config(kind) is None)
if unknown:
    sys.exit(f"{sys.argv[1]} has what Grafana does not know: " + ", ".join(unknown))
print(f"known to Grafana: {sys.argv[1]}")
