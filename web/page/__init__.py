"""The page: layout, views as HTML, and what happens on its events."""
