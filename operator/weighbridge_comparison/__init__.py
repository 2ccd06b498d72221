"""What a fleet would gain: the law and the ways of others over the same fleet file, in virtual time or on real Envoys.

Stands above the control plane's core and the simulator, which know nothing of each other; neither imports it.
"""
