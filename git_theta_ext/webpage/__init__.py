"""Reports as self-contained web pages: tables, heat maps, histograms and plots, as HTML and SVG."""
