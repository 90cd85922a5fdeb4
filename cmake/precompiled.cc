// Has nothing but the precompiled headers of its target.
