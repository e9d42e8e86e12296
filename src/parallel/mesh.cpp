#include "parallel/mesh.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/number_check.h"

namespace ospnext {
namespace {

using Sides = std::array<int64_t, 5>;
constexpr std::array kSideFlags = {"`data_parallel`", "`cfg_parallel`", "`ssp`", "`ulysses`",
                                   "`ring`"};

Sides sides_of(const Mesh& mesh) {
  return {mesh.data, mesh.cfg, mesh.sequence.ssp, mesh.sequence.ulysses, mesh.sequence.ring};
}

Sides sides_of(const MeshFields& flags) {
  return {flags.data_parallel, flags.cfg_parallel, flags.ssp, flags.ulysses, flags.ring};
}

// The distance of a mesh from the wanted sides: the sum of |log2(side / wanted)|.
double distance(const Mesh& mesh, const Sides& wanted) {
  const Sides sides = sides_of(mesh);
  double sum = 0;
  for (size_t i = 0; i < sides.size(); ++i) {
    if (wanted[i] > 0) {
      sum += std::abs(std::log2(static_cast<double>(sides[i]) / static_cast<double>(wanted[i])));
    }
  }
  return sum;
}

// The first of `meshes` whose time is within 2 % of the fastest.
Mesh fastest(const std::vector<Mesh>& meshes, const std::function<double(const Mesh&)>& seconds) {
  constexpr double kAlike = 1.02;  // predictions are not more exact than this
  if (meshes.size() == 1) {
    return meshes.front();
  }
  std::vector<double> times;
  for (const Mesh& mesh : meshes) {
    times.push_back(seconds(mesh));
  }
  const double enough = kAlike * *std::min_element(times.begin(), times.end());
  const auto found =
      std::find_if(times.begin(), times.end(), [&](double time) { return time <= enough; });
  return meshes[found - times.begin()];
}

// The sides that are at least `least`, written as flags.
std::string flags_text(const Sides& sides, int64_t least) {
  std::string text;
  for (size_t i = 0; i < sides.size(); ++i) {
    if (sides[i] >= least) {
      text.append(text.empty() ? "" : " ").append(kSideFlags[i]).append(" ");
      text.append(std::to_string(sides[i]));
    }
  }
  return text.empty() ? "none of these flags" : text;
}

}  // namespace

std::string Mesh::text() const {
  return "data " + std::to_string(data) + " x CFG " + std::to_string(cfg) + " x SSP " +
         std::to_string(sequence.ssp) + " x Ulysses " + std::to_string(sequence.ulysses) +
         " x ring " + std::to_string(sequence.ring);
}

std::vector<Mesh> possible_meshes(int ranks, const MeshSubject& subject) {
  std::vector<Mesh> meshes;
  const auto divides = [](int part, int64_t whole) { return whole % part == 0; };
  for (int data = 1; data <= std::min<int64_t>(ranks, subject.videos); ++data) {
    for (int cfg = 1; cfg <= (subject.two_passes ? 2 : 1); ++cfg) {
      for (int ssp = 1; ssp <= std::min<int64_t>(ranks, subject.segments); ++ssp) {
        for (int ulysses = 1; ulysses <= std::min<int64_t>(ranks, subject.num_heads); ++ulysses) {
          const int rest = data * cfg * ssp * ulysses;
          if (divides(rest, ranks) && divides(ssp, subject.segments) &&
              divides(ulysses, subject.num_heads)) {
            meshes.push_back({data, cfg, {ssp, ulysses, ranks / rest}});
          }
        }
      }
    }
  }
  std::sort(meshes.begin(), meshes.end(),
            [](const Mesh& a, const Mesh& b) { return sides_of(a) > sides_of(b); });
  return meshes;
}

Mesh choose_mesh(int ranks, const MeshFields& flags, const MeshSubject& subject,
                 const std::function<double(const Mesh&)>& seconds) {
  constexpr int64_t kMost = 1 << 16;
  constexpr size_t kShown = 3;
  const Sides wanted = sides_of(flags);
  for (size_t i = 0; i < wanted.size(); ++i) {
    check_range<int64_t>(kSideFlags[i], wanted[i], 0, kMost);
  }
  std::vector<Mesh> meshes = possible_meshes(ranks, subject);
  std::stable_sort(meshes.begin(), meshes.end(), [&](const Mesh& a, const Mesh& b) {
    return distance(a, wanted) < distance(b, wanted);
  });
  const Mesh first = meshes.front();
  if (distance(first, wanted) == 0) {
    std::erase_if(meshes, [&](const Mesh& mesh) {
      return distance(mesh, wanted) > 0 || mesh.data != first.data;
    });
    return seconds ? fastest(meshes, seconds) : first;
  }
  std::string nearest;
  for (size_t i = 0; i < std::min(kShown, meshes.size()); ++i) {
    nearest += (i == 0 ? "\"" : ", \"") + flags_text(sides_of(meshes[i]), 2) + "\"";
  }
  throw InputError("mesh: found " + flags_text(wanted, 1) + " for " + std::to_string(ranks) +
                   " process(es), " + std::to_string(subject.videos) + " video(s), " +
                   std::to_string(subject.num_heads) + " heads and " +
                   std::to_string(subject.segments) + " segment(s), which do not fit; expected " +
                   nearest + " or another that multiplies to " + std::to_string(ranks));
}

}  // namespace ospnext
