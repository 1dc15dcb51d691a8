-- Of everything in the catalogs that policies depend on. Another than before: rights may have changed.
select realtime._digest();
