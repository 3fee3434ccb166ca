"""Reports as self-contained web pages: tables, heat maps and histograms, as HTML and SVG."""
