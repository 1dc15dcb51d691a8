-- What notify.sql says.
listen bench;
