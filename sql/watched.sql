-- What policies depend on, and how changes of it are noticed.
select object, kind, noticed_by, coalesce(opaque, '') as opaque, coalesce(mend, '') as mend from realtime.watched;
