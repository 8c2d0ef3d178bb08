"""The console at `/`: pages in the browser, on NiceGUI."""
