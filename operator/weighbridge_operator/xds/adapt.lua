-- Adapts a request to the node that was chosen for it: the name that this node gives the model, and its base path.
-- Runs in the upstream filter chain, anew for each try, so that a retry on another node is adapted to that one.
--
-- All tries share one set of headers, while each gets the body as the client sent it. So nothing that the next try needs
-- may be removed, and what an earlier one wrote (path, content-length) is always written again. The node's facts come as
-- one header from its endpoint metadata, new for each try: "/base;model=name;model=name;". The route's metadata says
-- which models it asks for, the preferred first, separated by blanks.

local find, match, sub = string.find, string.match, string.sub

-- As in entrance.lua: no body outlives its request's turn; and one of megabytes does not wait for collection.
collectgarbage("setpause", 400)
local LARGE = 2 ^ 20

local function name_on_node(served, wanted)
  for model in string.gmatch(wanted, "%S+") do
    local _, at = find(served, ";" .. model .. "=", 1, true)
    if at then return sub(served, at + 1, find(served, ";", at + 1, true) - 1) end
  end
end

-- The path ends with the suffix whatever stood before it, the caller's /v1 or the base of the node tried before. Where
-- the path names the model, it is Gemini's: ".../models/NAME:method".
local function path_on_node(path, base, name)
  local last = (find(path, "?", 1, true) or #path + 1) - 1
  for number = 1, #SUFFIXES do
    local suffix = SUFFIXES[number]
    local first = last - #suffix + 1
    if sub(path, first, last) == suffix then return base .. sub(path, first) end
  end
  local method = match(sub(path, 1, last), ":%a+$")
  if not method or not name then return path end
  name = string.gsub(name, "[^%w._:/@+~-]", function(c) return string.format("%%%02X", string.byte(c)) end)
  return base .. "/models/" .. name .. method .. sub(path, last + 1)
end

function envoy_on_request(handle)
  local headers, wanted = handle:headers(), handle:metadata():get("models")
  local served, route = headers:get("x-weighbridge-served") or ";", headers:get("x-weighbridge-route")
  headers:remove("x-weighbridge-served")
  headers:remove("x-envoy-original-host")
  local name = wanted and name_on_node(served, wanted)
  headers:replace(":path", path_on_node(headers:get(":path"), sub(served, 1, find(served, ";", 1, true) - 1), name))
  local body = handle:body()
  if not body then return end
  local size = body:length()
  -- The route header ends with where the name stands in the body: "... 926 947".
  local first, last = match(route or "", " (%d+) (%d+)$")
  if name and tonumber(first or 0) > 0 then
    local text = body:getBytes(0, size)
    text = sub(text, 1, first) .. name .. sub(text, last)
    body:setBytes(text)
    if size > LARGE then collectgarbage() end
    size = #text
  end
  handle:headers():replace("content-length", tostring(size))
end
