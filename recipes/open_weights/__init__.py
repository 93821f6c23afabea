"""The weights that ship with jaxsep: a corpus of free sound, training, calibration, export."""
