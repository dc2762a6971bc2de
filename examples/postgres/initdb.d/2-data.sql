INSERT INTO note (text) VALUES ('written by an init script');
