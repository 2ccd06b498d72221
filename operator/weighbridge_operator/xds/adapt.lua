-- Adapts a request to the node that was chosen for it: the name that this node gives the model, and its base path.
-- Runs in the upstream filter chain, anew for each try, so that a retry on another node is adapted to that one.
-- The node's facts arrive as headers from its endpoint metadata: "served" is ";model=name;model=name;" and holds only names
-- that differ; the route says which models it asks for, the preferred first, separated by blanks.

local find, sub = string.find, string.sub

local function name_on_node(served, wanted)
  for model in string.gmatch(wanted, "%S+") do
    local _, at = find(served, ";" .. model .. "=", 1, true)
    if at then return sub(served, at + 1, find(served, ";", at + 1, true) - 1) end
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local served, base = headers:get("x-weighbridge-served"), headers:get("x-weighbridge-base")
  local wanted, route = headers:get("x-weighbridge-models"), headers:get("x-weighbridge-route")
  for _, name in ipairs({ "served", "base", "models", "route" }) do headers:remove("x-weighbridge-" .. name) end
  headers:remove("x-envoy-original-host")
  if base and base ~= "" then headers:replace(":path", base .. sub(headers:get(":path"), 4)) end
  local name = served and wanted and route and name_on_node(served, wanted)
  if not name then return end
  local body = handle:body()
  if not body then return end
  local text = body:getBytes(0, body:length())
  local first, last = string.match(route, "(%d+) (%d+)$")
  text = sub(text, 1, first) .. name .. sub(text, last)
  body:setBytes(text)
  handle:headers():replace("content-length", tostring(#text))
end
