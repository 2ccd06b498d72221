
-- Names the model in the refusal of one that nobody serves: its route knows what there is, not what was asked for. It
-- stands in the place of the entrance's for these answers alone. What was asked for comes as the route header, or as the
-- path of /v1/models/NAME.

-- A query says nothing here: what is found without it may be a model after all.
function envoy_on_request(handle)
  local headers = handle:headers()
  local bare = string.match(headers:get(":path"), "^([^?]*)%?")
  if bare then headers:replace(":path", bare) end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local asked = headers:get("x-weighbridge-route") or ""
  headers:remove("x-weighbridge-route")
  local name = string.match(asked, "^%S+ %S+ (%S+) ") or string.match(asked, "^/v1/models/([^?]*)") or ""
  -- Plain characters alone, so that nothing in it can end the text that it is put into.
  name = string.gsub(name, "[^%w._:/@+%%?-]+", "?")
  if #name > 256 then name = string.sub(name, 1, 256) .. "..." end
  local body = handle:body()
  if not body or name == "" then return end
  local text = body:getBytes(0, body:length())
  local _, last = string.find(text, "The model", 1, true)
  if not last then return end
  body:setBytes(string.sub(text, 1, last) .. " " .. name .. string.sub(text, last + 1))
  handle:headers():replace("content-length", tostring(body:length()))
end
