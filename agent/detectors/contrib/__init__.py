"""The field's other systems as detectors: chosen by name for a source; `catalog` lists them all."""
