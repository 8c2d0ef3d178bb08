"""Names of the detectors of time series, without importing them."""

# the detector that series are learned with where no other is named
DEFAULT_OF_SERIES = "series"


def is_of_series(name: str) -> bool:
    """Whether a detector of this name is one of time series."""
    return name == DEFAULT_OF_SERIES or name.startswith(f"{DEFAULT_OF_SERIES}_")
