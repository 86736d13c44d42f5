"""One page of everything that a build and its checks learnt: a single file, read offline.

`gather` collects it into a `record.Report`, the other modules turn that into figures and words, and
`render` into HTML. Charts are Vega-Lite, and the page carries the library that draws them.
"""
