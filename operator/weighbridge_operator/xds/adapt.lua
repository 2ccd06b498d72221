-- Adapts a request to the node that was chosen for it: the name that this node gives the model, and its base path.
-- Runs in the upstream filter chain, anew for each try, so that a retry on another node is adapted to that one.
--
-- All tries share one set of headers, while each gets the body as the client sent it. So what the next try needs and no
-- node may see is kept beside the headers, and what an earlier one wrote (path, content-length) is never taken for the
-- client's. What is known comes as one header, new for each try: the node's facts from its endpoint metadata,
-- "/base;model=name;model=name;", a blank, and the route header, which only the first try still has. The route's metadata
-- says which models it asks for, the preferred first, separated by blanks.

local find, match, sub = string.find, string.match, string.sub

-- As in entrance.lua: no body outlives its request's turn; and one of megabytes does not wait for collection.
collectgarbage("setpause", 400)
local LARGE = 2 ^ 20

local function name_on_node(served, wanted)
  local first = 1
  repeat
    local blank = find(wanted, " ", first, true)
    local _, at = find(served, ";" .. sub(wanted, first, (blank or 0) - 1) .. "=", 1, true)
    if at then return sub(served, at + 1, find(served, ";", at + 1, true) - 1) end
    first = (blank or 0) + 1
  until not blank
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

-- What the route header said, which ends with where the model's name stands: "... 926 947". The first try leaves it in the
-- stream's metadata, which all tries share.
local function keep_route(handle, route)
  local kept = handle:streamInfo():dynamicMetadata()
  if find(route, " ", 1, true) then
    kept:set("weighbridge.adapt", "route", route)
    return route
  end
  local told = kept:get("weighbridge.adapt")
  return told and told.route
end

-- Writes the node's name of the model into the body; its size now.
local function rename(body, route, name)
  local size = body:length()
  local first, last = match(route, "^%S+ %S+ %S* (%d+) (%d+)$")
  first = tonumber(first or 0)
  if first == 0 then return size end
  local text = body:getBytes(0, first) .. name .. body:getBytes(last - 1, size - last + 1)
  body:setBytes(text)
  if size > LARGE then collectgarbage() end
  return #text
end

-- The body first: headers that were fetched before it came are void.
function envoy_on_request(handle)
  local body, wanted = handle:body(), handle:metadata():get("models")
  local headers = handle:headers()
  local served, found = match(headers:get("x-weighbridge-served") or "", "^(.*;) ?(.*)$")
  served = served or ";"
  local route = keep_route(handle, found or "")
  headers:remove("x-weighbridge-served")
  local name = wanted and name_on_node(served, wanted)
  local path = headers:get(":path")
  local there = path_on_node(path, sub(served, 1, find(served, ";", 1, true) - 1), name)
  if there ~= path then headers:replace(":path", there) end
  if body then
    local size = name and route and rename(body, route, name) or body:length()
    headers:replace("content-length", tostring(size))
  end
end
