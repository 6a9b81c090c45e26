-- Applied once, in one transaction, by `node dist/server.js migrate`. Never edit an applied file: add a new one.
-- The old release runs on while this one starts, so every change must suit both ("expand, then contract").
CREATE TABLE notes (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  text       text NOT NULL CHECK (char_length(text) BETWEEN 1 AND 500),
  created_at timestamptz NOT NULL DEFAULT now()
);
