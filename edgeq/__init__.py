"""Deploy models to phones, boards and laptops within a stated budget."""
