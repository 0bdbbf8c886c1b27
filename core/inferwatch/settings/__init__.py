"""The configuration: one YAML file for every command, overridden by `INFERWATCH_...` environment variables.

Unknown keys are refused. `load_settings` raises one `ConfigError` that lists every fault with its path, the value and
what is allowed. Relative paths are relative to the file.
"""

from inferwatch.settings.capture import (
    CaptureSettings,
)
from inferwatch.settings.detectors import (
    AnyDetectorSettings,
    DetectorSettings,
    DriftSettings,
    ExpectSettings,
    OutlierSettings,
    QualitySettings,
    WindowSettings,
)
from inferwatch.settings.documents import (
    read_document,
)
from inferwatch.settings.load import (
    Settings,
    load_settings,
)
from inferwatch.settings.models import (
    MOST_SEGMENTS,
    ExplainerSettings,
    FalseAlarmSettings,
    FeatureSettings,
    HoursSettings,
    LoggedSettings,
    ModelSettings,
    SegmentSettings,
    configured_for,
)
from inferwatch.settings.services import (
    AliasSettings,
    AuthSettings,
    ExcludeSettings,
    ExplainSettings,
    IngestSettings,
    PayloadLogSettings,
)
from inferwatch.settings.transport import (
    AnyTransport,
    EmbeddedTransport,
    KafkaTransport,
    TransportSettings,
)

__all__ = [
    "MOST_SEGMENTS",
    "AliasSettings",
    "AnyDetectorSettings",
    "AnyTransport",
    "AuthSettings",
    "CaptureSettings",
    "DetectorSettings",
    "DriftSettings",
    "EmbeddedTransport",
    "ExcludeSettings",
    "ExpectSettings",
    "ExplainSettings",
    "ExplainerSettings",
    "FalseAlarmSettings",
    "FeatureSettings",
    "HoursSettings",
    "IngestSettings",
    "KafkaTransport",
    "LoggedSettings",
    "ModelSettings",
    "OutlierSettings",
    "PayloadLogSettings",
    "QualitySettings",
    "SegmentSettings",
    "Settings",
    "TransportSettings",
    "WindowSettings",
    "configured_for",
    "load_settings",
    "read_document",
]
