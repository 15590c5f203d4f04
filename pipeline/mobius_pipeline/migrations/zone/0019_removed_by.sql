-- What the zone's own pipeline took out of spans of other sources is told apart from what services did.
ALTER TABLE ${database}.removed_attributes ${on_cluster}
    ADD COLUMN IF NOT EXISTS remover Enum8('service' = 0, 'zone' = 1),
    MODIFY ORDER BY (hour, region, service, remover);
