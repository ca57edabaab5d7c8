"""The report: sections, figures and tables, written as HTML, Markdown and JSON."""
