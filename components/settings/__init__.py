"""The settings of a stack: typed, with defaults filled in, and refused as a whole if any of them is wrong."""

from components.settings.faults import SettingsError
from components.settings.load import REDIRECTING_VARIABLES, load, parse
from components.settings.models import DEFAULTS, SECTIONS, HostSettings, ImagesSettings, MachinesSettings
from components.settings.plan import BACKEND, Node, Settings
from components.settings.rules import RULES
from components.settings.services import ApplicationSettings, ContentSettings, ProxySettings

__all__ = [
    "BACKEND",
    "DEFAULTS",
    "REDIRECTING_VARIABLES",
    "RULES",
    "SECTIONS",
    "ApplicationSettings",
    "ContentSettings",
    "HostSettings",
    "ImagesSettings",
    "MachinesSettings",
    "Node",
    "ProxySettings",
    "Settings",
    "SettingsError",
    "load",
    "parse",
]
