"""Defences for other toolboxes, one module each; each needs its package, an optional extra of this one.

`integrations.foolbox` (`pip install 'invgan_tf[foolbox]'`) and `integrations.art` (`pip install 'invgan_tf[art]'`).
"""
