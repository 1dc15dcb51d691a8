select realtime.send(jsonb_build_object('text', 'hello'), 'message', 'room:1');                            -- bob hears it
delete from members where user_id = 'b0b00000-0000-4000-8000-000000000002' and room_id = 1;                -- bob is cut off
insert into members (user_id, room_id) values ('b0b00000-0000-4000-8000-000000000002', 1);                 -- and may join again
