"""A code location like the real one, but that asks for the backtest by itself whenever a month of it is missing."""

import dagster as dg

from finance_os.defs.assets.backtest import BACKTEST
from finance_os.defs.location import build_defs

_ASKED_ONCE = dg.AutomationCondition.missing().newly_true()

defs = dg.Definitions.merge(
    build_defs().map_asset_specs(
        func=lambda spec: spec.replace_attributes(automation_condition=_ASKED_ONCE) if spec.key == BACKTEST else spec
    ),
    dg.Definitions(
        sensors=[
            dg.AutomationConditionSensorDefinition(
                "automation",
                target=dg.AssetSelection.assets(BACKTEST),
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=1,
            )
        ]
    ),
)
