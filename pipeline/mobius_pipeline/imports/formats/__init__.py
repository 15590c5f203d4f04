"""Result files of test tools, one format a module; :mod:`.recognise` tells them apart by content."""
