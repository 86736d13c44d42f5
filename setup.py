"""Which packages there are; everything else about edgeq is in pyproject.toml."""

from setuptools import find_packages, setup

# devices/ ships as edgeq._devices, which a search would not find.
setup(
    packages=[*find_packages(include=["edgeq", "edgeq.*"]), "edgeq._devices"],
    package_dir={"edgeq": "edgeq", "edgeq._devices": "devices"},
)
