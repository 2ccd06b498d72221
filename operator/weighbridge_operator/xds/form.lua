
-- Reading a form (multipart/form-data, RFC 7578): where the value of `model` stands, and whether `stream` is wanted.
--
-- Servers differ in what they take for a form, so only what all of them read alike passes: lines end with CRLF, the
-- boundary stands nowhere but between parts, nothing stands before the first part or after the last, names are plain and
-- quoted without escapes, `model` and `stream` come once and are no files. Everything else of a part is not looked at.

local WINDOW = 65536 -- bytes that are looked through at once, so that no large file becomes one string
local PARTS, HEAD, VALUE_LENGTH = 1000, 8192, 400
local lower = string.lower

-- The boundary that a content-type names, or nil where it is none that everybody reads alike.
local function boundary_of(content_type)
  local rest = match(content_type, "^[Mm][Uu][Ll][Tt][Ii][Pp][Aa][Rr][Tt]/[Ff][Oo][Rr][Mm]%-[Dd][Aa][Tt][Aa](.*)$")
  local boundary
  while rest and rest ~= "" do
    local name, value, behind = match(rest, '^%s*;%s*(%a+)=([^%s;,"]+)(.*)$')
    if not name then name, value, behind = match(rest, '^%s*;%s*(%a+)="([^%s;,"\\]+)"(.*)$') end
    name = name and lower(name)
    if name == "boundary" and not boundary and #value <= 70 and not find(value, "[^%w'()+_./:=?-]") then
      boundary = value
    elseif name ~= "charset" or lower(value) ~= "utf-8" then
      return nil
    end
    rest = behind
  end
  return boundary
end

-- The parameters of a part's content-disposition that matter: its name, and whether it is a file. nil: not readable.
local function read_disposition(value)
  local rest, name, is_file = match(value, "^%s*[Ff][Oo][Rr][Mm]%-[Dd][Aa][Tt][Aa](.*)$"), nil, false
  local seen = {}
  while rest and find(rest, "%S") do
    local key, given, behind = match(rest, '^%s*;%s*([%a*]+)="([^"\\]*)"(.*)$')
    if not key then key, given, behind = match(rest, "^%s*;%s*([%a*]+)=([%w%%'._-]+)(.*)$") end
    key = key and lower(key)
    if not key or seen[key] then return nil end
    seen[key] = true
    if key == "name" then
      if #given > 64 or not find(given, "^[%w_.%[%]-]+$") then return nil end
      name = given
    elseif key == "filename" or key == "filename*" then
      if find(lower(given), "name%s*=") then return nil end
      is_file = true
    else
      return nil
    end
    rest = behind
  end
  return name, is_file
end

-- The name of the part whose header lines these are, each with its CRLF, and whether it is a file.
local function read_part_head(lines)
  if find(lines, "[%z\1-\8\11\12\14-\31\127]") then return nil end
  local disposition
  for line in string.gmatch(lines, "(.-)\r\n") do
    local key, value = match(line, "^([%w-]+):(.*)$")
    if not key or find(line, "[\r\n]") then return nil end
    if lower(key) == "content-disposition" then
      if disposition then return nil end
      disposition = value
    end
  end
  if not disposition then return nil end
  return read_disposition(disposition)
end

-- Where the boundary stands next from `from` on, or nil where it stands wrongly or not at all. `get(first, last)` gives
-- bytes of the body.
local function find_boundary(get, size, from, mark)
  local at = from
  while at <= size do
    local last = math.min(size, at + WINDOW - 1)
    local hit = find(get(at, last), mark, 1, true)
    if hit then
      hit = at + hit - 1
      return hit - 2 >= from and get(hit - 2, hit - 1) == "\r\n" and hit or nil
    end
    if last == size then return nil end
    at = last - #mark + 2
  end
end

-- Notes a field that the gateway acts on, whose value stands from `first` to `last`. What is wrong with it, if anything.
local function note_field(asked, name, is_file, get, first, last)
  if name ~= "model" and name ~= "stream" then
    return (find(name, "^model[.%[-]") or find(name, "^stream[.%[-]")) and "field" or nil
  end
  if is_file then return "field" end
  if asked[name .. "_seen"] then return "twice" end
  asked[name .. "_seen"] = true
  local value = last - first < VALUE_LENGTH and get(first, last) or "?"
  if name == "model" then
    asked.first, asked.last, asked.value = first - 1, last + 1, value
    return nil
  end
  value = lower(value)
  asked.stream = value == "true"
  asked.odd_stream = value ~= "true" and value ~= "false" and value ~= ""
end

-- Reads a whole form of `size` bytes. Returns what is asked for, or nil, what is wrong, and the field it is about.
function read_form(get, size, boundary)
  local asked, mark, parts = { stream = false }, "--" .. boundary, 0
  if size < #mark + 4 or get(1, #mark) ~= mark then return nil, "form" end
  local at = #mark + 1 -- behind the boundary
  while true do
    local next = get(at, math.min(size, at + 3))
    if next == "--" or next == "--\r\n" and at + 3 == size then return asked end
    parts = parts + 1
    if sub(next, 1, 2) ~= "\r\n" or parts > PARTS then return nil, "form" end
    local head = get(at + 2, math.min(size, at + 1 + HEAD))
    local close = find(head, "\r\n\r\n", 1, true)
    if not close then return nil, "form" end
    head = sub(head, 1, close + 1)
    local name, is_file = read_part_head(head)
    if not name or find(head, mark, 1, true) then return nil, "form" end
    local first = at + 1 + close + 4
    local hit = find_boundary(get, size, first, mark)
    if not hit then return nil, "form" end
    local wrong = note_field(asked, name, is_file, get, first, hit - 3)
    if wrong then return nil, wrong, name end
    at = hit + #mark
  end
end
