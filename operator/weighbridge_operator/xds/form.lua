
-- Reading a form (multipart/form-data, RFC 7578): where the value of `model` stands, and whether `stream` is wanted.
--
-- Servers differ in what they take for a form, so only what all of them read alike passes: lines end with CRLF, the
-- boundary stands nowhere but between parts, nothing stands before the first part and nothing but blanks after the last,
-- names are plain and quoted without escapes, `model` and `stream` come once, by these names, are no files and not encoded.
-- Everything else of a part is not looked at.

local WINDOW = 65536 -- bytes that are looked through at once, so that no large file becomes one string
local PARTS, HEAD, VALUE_LENGTH = 1000, 8192, 400
local lower = string.lower

-- In these a name of plain characters is the same to every reader, and none has another's bytes.
local CHARSETS = { ["utf-8"] = true, utf8 = true, ["us-ascii"] = true, ascii = true }

-- The parameter with which the rest of a content-type begins: name, value, what stands behind it. nil: not readable.
local function next_parameter(rest)
  local name, value, behind = match(rest, '^%s*;%s*([%w._-]+)=([^%s;,"]+)(.*)$')
  if not name then name, value, behind = match(rest, '^%s*;%s*([%w._-]+)="([^%s;,"\\]+)"(.*)$') end
  return name and lower(name), value, behind
end

-- Whether a content-type is that of JSON in a charset in which everybody reads the same. Some write "; utf-8" alone.
local function is_json(content_type)
  local rest = match(lower(content_type), "^application/json(.*)$")
  while rest and not find(rest, "^%s*;?%s*$") do
    local name, value, behind = next_parameter(rest)
    if not name then value, behind = match(rest, "^%s*;%s*([%w-]+)(.*)$") end
    if not value or find(value, "=", 1, true) then return false end
    if (not name or name == "charset") and not CHARSETS[value] then return false end
    rest = behind
  end
  return rest ~= nil
end

-- The boundary that a content-type names, or nil where it is none that everybody reads alike.
local function boundary_of(content_type)
  local rest = match(content_type, "^[Mm][Uu][Ll][Tt][Ii][Pp][Aa][Rr][Tt]/[Ff][Oo][Rr][Mm]%-[Dd][Aa][Tt][Aa](.*)$")
  local boundary
  while rest and rest ~= "" do
    local name, value, behind = next_parameter(rest)
    if name == "boundary" and not boundary and #value <= 70 and not find(value, "[^%w'()+_./:=?-]") then
      boundary = value
    elseif name ~= "charset" or not CHARSETS[lower(value)] then
      return nil
    end
    rest = behind
  end
  return boundary
end

-- The parameter in quotes with which the rest of a content-disposition begins, as it is written, escapes and all.
local function next_quoted(rest)
  local key, first = match(rest, '^%s*;%s*([%a*]+)="()')
  local at = first
  while at do
    local hit = find(rest, '["\\]', at)
    if hit and byte(rest, hit) == QUOTE then return key, sub(rest, first, hit - 1), sub(rest, hit + 1) end
    at = hit and hit + 2
  end
end

-- Whether every reader takes a file's name for no more than that. To one that knows no escapes it ends at the first quote,
-- so that nothing may stand behind it which is a parameter to that one, or a name to one that only looks for name=.
local function is_plain_file(given, name)
  local escaped = find(given, "\\", 1, true)
  if not name and (escaped or find(lower(given), "name%*?%s*=")) then return false end
  if escaped then return not find(given, ";", 1, true) end
  return not find(lower(given), ";%s*name%*?%s*=")
end

-- The parameters of a part's content-disposition that matter: its name, and whether it is a file. nil: not readable.
local function read_disposition(value)
  local rest, name, is_file = match(value, "^%s*[Ff][Oo][Rr][Mm]%-[Dd][Aa][Tt][Aa](.*)$"), nil, false
  local seen = {}
  while rest and find(rest, "%S") do
    local key, given, behind = next_quoted(rest)
    if not key then key, given, behind = match(rest, "^%s*;%s*([%a*]+)=([%w%%'._-]+)(.*)$") end
    key = key and lower(key)
    if not key or seen[key] then return nil end
    seen[key] = true
    if key == "name" then
      if #given > 64 or not find(given, "^[%w_.%[%]-]+$") then return nil end
      name = given
    elseif (key == "filename" or key == "filename*") and is_plain_file(given, name) then
      is_file = true
    else
      return nil
    end
    rest = behind
  end
  return name, is_file
end

-- Whether a header of a part says that its bytes are not the text itself. Java's clients name ISO-8859-1 for any text.
local function is_encoding(key, value)
  value = lower(value)
  if key == "content-transfer-encoding" then
    value = match(value, "^%s*(.-)%s*$")
    return value ~= "7bit" and value ~= "8bit" and value ~= "binary"
  end
  if key ~= "content-type" then return false end
  local rest = gsub(value, ';%s*charset="?([%w-]+)"?', function(charset)
    return (CHARSETS[charset] or charset == "iso-8859-1") and "" or nil
  end)
  return find(rest, "charset", 1, true) ~= nil
end

-- The name of the part whose header lines these are, each with its CRLF, whether it is a file, and whether it is encoded.
local function read_part_head(lines)
  if find(lines, "[%z\1-\8\11\12\14-\31\127]") then return nil end
  local disposition, is_encoded
  for line in string.gmatch(lines, "(.-)\r\n") do
    local key, value = match(line, "^([%w-]+):(.*)$")
    if not key or find(line, "[\r\n]") then return nil end
    key = lower(key)
    if key == "content-disposition" then
      if disposition then return nil end
      disposition = value
    end
    is_encoded = is_encoded or is_encoding(key, value)
  end
  if not disposition then return nil end
  local name, is_file = read_disposition(disposition)
  return name, is_file, is_encoded
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
-- `odd`: it is a file, or encoded.
local function note_field(asked, name, odd, get, first, last)
  local value = last - first < VALUE_LENGTH and get(first, last) or "?"
  -- Some readers decode all fields by this one.
  if name == "_charset_" then return not CHARSETS[lower(value)] and "field" or nil end
  if name ~= "model" and name ~= "stream" then
    local known = is_alias(name) or find(lower(name), "^model[.%[-]") or find(lower(name), "^stream[.%[-]")
    return known and "field" or nil
  end
  if odd then return "field" end
  if asked[name .. "_seen"] then return "twice" end
  asked[name .. "_seen"] = true
  if name == "model" then
    asked.first, asked.last, asked.value = first - 1, last + 1, value
    return nil
  end
  value = lower(value)
  asked.stream = value == "true"
  asked.odd_stream = value ~= "true" and value ~= "false" and value ~= ""
end

-- Whether a form ends with the two hyphens at `at`: behind them only blanks may stand, as RFC 2046 allows and some send.
local function is_end(get, size, at)
  return get(at, at + 1) == "--" and size - at < WINDOW and not find(get(at + 2, size), "[^ \t\r\n]")
end

-- Reads a whole form of `size` bytes. Returns what is asked for, or nil, what is wrong, and the field it is about.
function read_form(get, size, boundary)
  local asked, mark, parts = { stream = false }, "--" .. boundary, 0
  if size < #mark + 4 or get(1, #mark) ~= mark then return nil, "form" end
  local at = #mark + 1 -- behind the boundary
  while true do
    if at < size and is_end(get, size, at) then return asked end
    parts = parts + 1
    if at >= size or get(at, at + 1) ~= "\r\n" then return nil, "form" end
    if parts > PARTS then return nil, "parts" end
    local head = get(at + 2, math.min(size, at + 1 + HEAD))
    local close = find(head, "\r\n\r\n", 1, true)
    if not close then return nil, "form" end
    head = sub(head, 1, close + 1)
    local name, is_file, is_encoded = read_part_head(head)
    if not name or find(head, mark, 1, true) then return nil, "head" end
    local first = at + 1 + close + 4
    local hit = find_boundary(get, size, first, mark)
    if not hit then return nil, "form" end
    local wrong = note_field(asked, name, is_file or is_encoded, get, first, hit - 3)
    if wrong then return nil, wrong, name end
    at = hit + #mark
  end
end
