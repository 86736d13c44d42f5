"""The HTML report of everything a build and its checks measured: a single file, read offline.

`gather` collects the data into a `record.Report`, the other modules turn it into figures and text,
and `render` writes HTML. Charts are Vega-Lite; the page includes the library that draws them.
"""
