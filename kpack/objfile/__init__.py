"""The object-file part: the contract, ELF, archives, and what lies in them."""
