-- An hour in which some cells have people and others only requests.
ALTER TABLE ${database}.exports ${on_cluster}
    MODIFY COLUMN counted_by Enum8('subjects' = 1, 'requests' = 2, 'both' = 3);
