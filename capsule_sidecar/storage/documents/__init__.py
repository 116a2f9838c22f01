"""Documents: JSON objects in named collections, found by filters and changed by operators.

`jsons` reads and writes JSON without losing a digit, `forms` says how values compare, `filters`
checks what is asked for, `sql` asks the database for it, `updates` changes one document, `indexes`
keeps keys of declared paths, `finding` and `store` are what the floors above call.
"""
