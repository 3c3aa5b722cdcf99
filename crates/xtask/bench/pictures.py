#!/usr/bin/env python3
"""Fetch labelled photographs from two Debian 12 packages: pictures.py OUT_DIR [DIR_WITH_DEBS]

Needs apt-get and dpkg-deb, and Pillow. Writes OUT_DIR/pictures/, OUT_DIR/pictures.tsv and a TSV per source.
Photographs are chosen by the lists below (looked at by eye, on contact sheets); everything else is left out.
"""
import glob, hashlib, io, os, re, struct, subprocess, sys, tempfile, zlib
from PIL import Image

DEBS = {
    'gcompris-qt-data': ('3.1-2', 'e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f'),
    'tuxpaint-stamps-default': ('2022.06.04-1', '6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34'),
}
GPL = 'GPL-2.0-or-later (package as a whole)'

# gcompris: folder -> {file stem: label}; a '#' stands for any number
GC = {
 'categorization/resource/images/fishes': 'fish#=fish',
 'categorization/resource/images/monuments': '''IndiaGate=arch arcDeTriomphe=arch brandenburgGate=arch burj=skyscraper cathedral=cathedral
   christTheRedeemer=statue colosseum=amphitheatre eiffelTower=Eiffel_Tower empireState=skyscraper greatPyramid=pyramid greatWall=Great_Wall_of_China
   kutubMinar=minaret leaningTowerOfPisa=Leaning_Tower_of_Pisa mountRushmore=Mount_Rushmore operaHouse=Sydney_Opera_House
   parthenon=ancient_temple statueOfLiberty=statue tajMahal=Taj_Mahal zimniPalace=palace''',
 'categorization/resource/images/others': '''baseball=baseball blackslate=blackboard bucket=bucket buffetset=cup bulb=light_bulb chair=chair cup=cup
   erasers=eraser knife=cutlery pan=frying_pan pencil=pencil pillow=pillow plate=plate spoons=spoon volleyball=volleyball weighingMachine=scale''',
 'categorization/resource/images/renewable': '''dam#=dam solar4=solar_panel solar5=solar_panel solar6=solar_panel solar7=solar_panel solar8=solar_panel
   windmill6=wind_turbine windmill#=windmill windmill=windmill''',
 'categorization/resource/images/tools': '''hammer#=hammer measuringTape#=measuring_tape multimeter#=multimeter nailCutter=nail_clipper plier#=pliers
   scissors#=scissors screwDriver=screwdriver screwDriver1=screwdriver screwDriver2=screwdriver sickle=sickle sideCutter1=pliers spray=spray_bottle
   tweezer=tweezers tweezer1=tweezers wrench=wrench wrench1=wrench''',
 'erase/resource': '''alpaca=alpaca bee=bee butterfly=butterfly calf=cow camels=camel caterpillar=caterpillar chamaeleon=chameleon cheetah=cheetah
   crab=crab dolphin=dolphin flying_fox=bat gibbon=gibbon giraffe=giraffe goat=goat gorilla=gorilla gosling=goose heron=heron horse=horse
   kingfisher=kingfisher kitten=cat long_nosed_monkey=monkey macaque=monkey meerkats=meerkat northern_harrier=hawk nubian_ibex=ibex penguin=penguin
   pika=pika red_panda=red_panda rhinoceros=rhinoceros spoonbills=spoonbill squirrel=squirrel swans=swan toucan=toucan''',
 'explore_world_animals/resource/animals': '''bison=bison chameleon=chameleon crocodile=crocodile dragon=komodo_dragon giraffe=giraffe hedgehog=hedgehog
   jaguar=jaguar kangaroo=kangaroo koala=koala lemur=lemur moose=moose narwhal=narwhal panda=panda polar_bear=polar_bear scarlet_macaw=parrot''',
 'explore_farm_animals/resource/animals': 'cat=cat chicken=chicken cow=cow dog=dog duck=duck horse=horse owl=owl pig=pig sheep=sheep',
 'explore_monuments/resource/egypt': 'bentPyramid=pyramid greatPyramidOfGiza=pyramid meidumPyramid=pyramid redPyramid=pyramid',
 'explore_monuments/resource/france': '''arlesAmphitheater=amphitheatre chateaudeChambord=castle chateaudeChenonceau=castle eiffelTower=Eiffel_Tower
   pontduGard=bridge reimsCathedral=cathedral''',
 'explore_monuments/resource/germany': 'berlinCathedral=cathedral brandenburgGate=arch neuschwansteinCastle=castle schwerinPalace=castle wormsCathedral=cathedral',
 'explore_monuments/resource/india': 'gatewayofIndia=arch hawaMahal=palace mysorePalace=palace qutubMinar=minaret',
 'explore_monuments/resource/usa': '''canyondeChelly=canyon castillodeSanMarcos=fort castleClinton=fort fortSumter=fort mountRushmore=Mount_Rushmore
   lincolnMemorial=ancient_temple- statueofLiberty=statue''',
 'explore_monuments/resource/wonders': '''chichenItza=pyramid christTheRedeemer=statue colosseum=amphitheatre greatWallofChina=Great_Wall_of_China
   machuPicchu=Machu_Picchu petra=Petra tajMahal=Taj_Mahal''',
 'details/resource/image': '''Chenonceau_background=castle EgeskovSlotSpejling_background=castle EilanDonanCastle_background=castle FanoeWindmill_background=windmill
   GizahPyramids_background=pyramid Nagoya_background=castle Neuschwanstein_background=castle OperaSidney_background=Sydney_Opera_House
   NDP_background=cathedral TajMahal_background=Taj_Mahal TourEiffel_background=Eiffel_Tower TowerBridgeLondon_background=bridge''',
}
# tuxpaint: stamp folder -> 'stem' or 'stem=label'; cut-outs, laid on white
TUX = {
 'animals/amphibians': 'frog-1=frog frog',
 'animals/birds': '''adelaide-rosella=parrot blackbird chicken_profile=chicken crow crowned_crane=crane drake=duck duck gander=goose guineafowl
   helmeted_guineafowl=guineafowl hen=chicken heron_greatblue=heron heron_greatblue_flying=heron lark little-penguin=penguin
   magellanic_penguin=penguin magpie nandou=ostrich- ostrich owl peacock pelican penguin pigeon pink_flamingo=flamingo rainbow-lorikeet=parrot
   rooster=chicken seagull silver-gull=seagull tucan=toucan turkey vulture''',
 'animals/fish': 'bluegroper=fish butterflyfish=fish clownfish=fish coraltrout=fish dolphinfish=fish moonwrasse=fish stripedfish=fish lionfish=fish lobster seahorse',
 'animals/insects': 'Brown_slug=slug Woodlouse=woodlouse fly grasshopper hornet=wasp hoverfly=fly mantis=praying_mantis xanthia=moth',
 'animals/lizards': 'iguana',
 'animals/mammals': 'badger elephant ferret giraffe hippopotamus pig pig_golden=pig pig_golden2=pig rabbit_little=rabbit rhino_black=rhinoceros wildboar=wild_boar',
 'animals/mammals/apes': 'chimp=chimpanzee gorilla',
 'animals/mammals/aquatic': 'dolphin orca otter sea_lion',
 'animals/mammals/bears': 'bear european-bear=bear',
 'animals/mammals/bears/toys': 'edward_bear=teddy_bear',
 'animals/mammals/bovines': '''bison bull=cow cow cow_white=cow gnu-baby-stand=gnu gnu-baby=gnu gnu-sitting=gnu gnu-stand=gnu goat
   indian_blackbuck=antelope ram=sheep sheep sheep_lamb=sheep yak zebu=cow''',
 'animals/mammals/camel': 'camel dromedary=camel',
 'animals/mammals/cats': 'lion-2=lion lion tiger tiger_sumatran=tiger',
 'animals/mammals/deer': 'caribou=reindeer deer doe=deer wapiti=deer',
 'animals/mammals/dogs': 'dingo=dog dog fox',
 'animals/mammals/equines': 'donkey donkey_eating=donkey horse zebra',
 'animals/mammals/rodents': 'beaver capybara marmot mouse rabbit-2=rabbit rabbit rat squirrel',
 'animals/marsupials': 'kangaroo koala wombat',
 'animals/shellfish': 'abalone=shell murray-mussel=shell',
 'clothes': 'clothespin_new=clothespin clothespin_old=clothespin',
 'food/fruit': '''Apricot_whole=apricot Cherry_Stella=cherry Strawberry2=strawberry apple_fuji=apple apple_granny_smith=apple apple_green=apple
   apple_red=apple apple_sierra_beauty=apple apricot avocado banana cherimoya grapes kiwi lemon mandarine=orange mango orange orange_seville=orange
   pear pineapple pomegranate raspberry sliced_lime=lime sliced_orange=orange strawberry''',
 'food/nuts': 'almond pecan walnut walnut_shelled=walnut',
 'food/spices': 'ginger',
 'food/vegetables': '''broccoli carrot chilepepper=chili_pepper corn eggplant garlic garlics=garlic lettuce mushroom onion pepper=bell_pepper potato
   pumpkin_small=pumpkin redlettuce=lettuce tomato yam=sweet_potato yellowpepper=bell_pepper''',
 'hobbies': 'binoculars camera_35mm=camera',
 'hobbies/music/brass': 'trumpet', 'hobbies/music/wind': 'bassoon',
 'hobbies/music/percussion': 'cymbal_crash=cymbal drum_tomtom_floor=drum drumkit=drum',
 'hobbies/music/string': 'cello guitar2=guitar guitar_classical=guitar guitar_electric=guitar guitar_electric_bass=guitar violin',
 'household': 'Lightbulb=light_bulb garbagecan=trash_can home_compost_bin=trash_can wheelie_bin=trash_can kettle key rubberduck=rubber_duck toilet',
 'household/arttools': 'pen_dryerase=pen scissors_small_closed=scissors scissors_small_open=scissors',
 'household/dishes': 'pitcher_small=pitcher teapot', 'household/dishes/utensils': 'nutcracker pepper_grinder',
 'household/tools': '''cementmixer=cement_mixer hammer mallet_metal=hammer measuring_tape paintbrush_large=paintbrush plyers=pliers saw spade=shovel
   toolbox wrench wrench_adjustable=wrench wrench_plumbers=wrench''',
 'medical': 'bandage_adhesive=adhesive_bandage mercurythermometer=thermometer stethoscope syringe',
 'military': 'paratrooper=parachute fireman240a=firefighter',
 'military/vehicles': 'bradley=armored_vehicle infantry-stryker=armored_vehicle f22_raptor=airplane',
 'plants/flowers': '''adeenia=flower anemone_red=flower anthoorium=flower bolsom=flower chemparathi=flower daffodil=flower flower1=flower
   flower10=flower flower2=flower flower3=flower flower4=flower flower5=flower flower6=flower flower7=flower flower8=flower flower9=flower
   iris=flower marigold=flower pigface=flower red-gazania=flower rose=flower whitestar-petunia=flower yellow-flower=flower''',
 'plants/mushrooms': 'cep-1=mushroom cep-2=mushroom cep=mushroom',
 'plants/trees': 'birch=tree holm_oak=tree liberia-palm=tree tree336=tree pinecone=pine_cone rambutan',
 'seasonal/christmas': 'Candy_cane_photo_1=candy_cane Candy_cane_photo_2=candy_cane Christmas_Tree_photo=christmas_tree Mince_Pie=pie Roast_turkey=roast_turkey xmaswreath=wreath',
 'seasonal/halloween': 'grave-a=gravestone grave-b=gravestone grave-d=gravestone grave-e=gravestone grave-f=gravestone grave-g=gravestone grave-h=gravestone grave-i=gravestone grave-j=gravestone',
 'space': 'spacewalk=astronaut',
 'space/moon': 'moon_3qt=moon moon_crescent=moon moon_full=moon',
 'space/planets': '2_venus=planet 3_earth=planet 4_mars=planet 5_jupiter=planet 6_saturn=planet',
 'sports': 'australian_rules_football=football basketball cricketball=cricket_ball football soccer=soccer_ball tennis_ball tennis_racket trophy_cup=trophy',
 'town': 'uk_post_box=mailbox usps_mailbox=mailbox', 'town/roadsigns': 'traffic_cone',
 'vehicles': '7spoke256=wheel wheel_tractor=wheel garbagetruck=garbage_truck',
 'vehicles/auto': 'beetle=car sedan=car sportscar2=car truck=pickup_truck',
 'vehicles/construction': 'dumper', 'vehicles/cycle': 'pink_tricycle=tricycle', 'vehicles/emergency': 'firetruck=fire_truck',
 'vehicles/flight': 'balloon360=hot_air_balloon', 'vehicles/flight/planes': '747=airplane', 'vehicles/masstransit': 'green_korean_bus=bus',
 'vehicles/race': 'indycar=race_car', 'vehicles/ship': 'chineseJunk=sailing_ship walnutBoat=sailing_ship',
}

def entries(text):
    """(stem pattern, label) pairs; a label that ends in '-' was judged doubtful and is left out"""
    for w in text.split():
        stem, _, label = w.partition('=')
        label = label or stem
        if not label.endswith('-'):
            yield stem, label.replace('_', ' ')

def lookup(text, stem):
    exact = dict(entries(text))
    return exact.get(stem) or exact.get(re.sub(r'\d+$', '#', stem))

def rcc(data):
    """(path, bytes) of every file in a Qt binary resource"""
    if data[:4] != b'qres':
        raise ValueError('not a Qt resource file')
    version, tree, blob, names = struct.unpack('>4I', data[4:20])
    size = 14 if version == 1 else 22
    def walk(i, prefix):
        at = tree + i * size
        name_at, flags = struct.unpack('>IH', data[at:at + 6])
        path = prefix
        if i:
            n, = struct.unpack('>H', data[names + name_at:names + name_at + 2])
            path += '/' + data[names + name_at + 6:names + name_at + 6 + 2 * n].decode('utf-16-be')
        if flags & 2:
            count, first = struct.unpack('>II', data[at + 6:at + 14])
            for k in range(first, first + count):
                yield from walk(k, path)
        else:
            where, = struct.unpack('>I', data[at + 10:at + 14])
            n, = struct.unpack('>I', data[blob + where:blob + where + 4])
            body = data[blob + where + 4:blob + where + 4 + n]
            if flags & 4:
                raise ValueError('zstd-packed resource: ' + path)
            yield path, zlib.decompress(body[4:]) if flags & 1 else body
    yield from walk(0, '')

def readme(text):
    """file name -> (licence, author, origin) from a gcompris README"""
    found = {}
    for block in re.split(r'\n\s*\n', text.replace('\r', '')):
        field, values = None, {}
        for line in block.splitlines():
            m = re.match(r'(Copyright|Licen[sc]e|Source|Files|Comments?)\s*:\s*(.*)', line)
            if m:
                field = m.group(1).replace('Licence', 'License')
                values.setdefault(field, []).append(m.group(2).strip())
            elif field:
                values.setdefault(field, []).append(line.strip())
        # some blocks of 'details' forget the line 'Files:', so the names follow the licence
        names = values.get('Files', []) + [v for v in values.get('License', [])[1:] if re.fullmatch(r'\S+\.(webp|jpg|png)', v)]
        licence = ' '.join(v for v in values.get('License', []) if v not in names).strip()
        author = ' '.join(values.get('Copyright', [])).strip()
        origin = ' '.join(values.get('Source', []) + values.get('Comment', [])).strip()
        for name in ' '.join(names).split():
            found[name.rstrip(',')] = (licence.replace('CC-BY-SA 4', 'CC-BY-SA-4').replace('domain', 'Domain'), author, origin)
    return found

def dhash(im):
    g = im.convert('L').resize((9, 8), Image.BILINEAR).tobytes()
    return sum((g[r * 9 + c] > g[r * 9 + c + 1]) << (r * 8 + c) for r in range(8) for c in range(8))

def main(out, debs=None):
    work = tempfile.mkdtemp(prefix='pics-')
    debs = debs or work
    rows, hashes, dropped = [], [], []
    os.makedirs(os.path.join(out, 'pictures'), exist_ok=True)

    def keep(source, stem, label, body, licence, author):
        im = Image.open(io.BytesIO(body))
        im.load()
        cut_out = im.mode in ('RGBA', 'LA') or 'transparency' in im.info
        if cut_out:
            rgba = im.convert('RGBA')
            box = rgba.split()[3].point(lambda a: 255 if a > 16 else 0).getbbox()
            rgba = rgba.crop(box)
            side = round(max(rgba.size) * 1.1)
            im = Image.new('RGB', (side, side), 'white')
            im.paste(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2), rgba.split()[3])
        d = (dhash(im), hashlib.sha256(im.convert('RGB').tobytes()).hexdigest())
        for h, sha, other, other_label in hashes:
            if sha == d[1] or (other_label == label and bin(h ^ d[0]).count('1') <= 2):
                dropped.append((stem, other))
                return
        if min(im.size) < 64:  # a cut-out's longest side, then, is under 58 px
            dropped.append((stem, 'smaller than 64 px'))
            return
        webp = body[8:12] == b'WEBP' and not cut_out
        name = '%s_%s.%s' % (source, re.sub(r'[^A-Za-z0-9]+', '_', stem), 'webp' if webp else 'png')
        with open(os.path.join(out, 'pictures', name), 'wb') as f:
            if webp:
                f.write(body)
            else:
                im.save(f, 'PNG', optimize=True)
        hashes.append((*d, stem, label))
        rows.append((name, label, source, licence, author))

    for name, (version, sha) in DEBS.items():
        path = os.path.join(debs, '%s_%s_all.deb' % (name, version))
        if not os.path.exists(path):
            subprocess.check_call(['apt-get', 'download', '%s=%s' % (name, version)], cwd=debs)
        got = hashlib.sha256(open(path, 'rb').read()).hexdigest()
        if got != sha:
            sys.exit('%s: SHA-256 is %s, wanted %s' % (path, got, sha))
        subprocess.check_call(['dpkg-deb', '-x', path, os.path.join(work, name)])

    files = {}
    for f in sorted(glob.glob(os.path.join(work, 'gcompris-qt-data/usr/share/gcompris-qt/rcc/*.rcc'))):
        for path, body in rcc(open(f, 'rb').read()):
            files[path.replace('/gcompris/src/activities/', '')] = body
    unstated = []
    for folder, text in GC.items():
        about, up = {}, folder
        while up and not about:
            about = readme(files.get(up + '/README', b'').decode('utf-8'))
            rel, up = os.path.relpath(folder, up), os.path.dirname(up)
        for path in sorted(files):
            if os.path.dirname(path) != folder or not path.endswith(('.webp', '.jpg', '.png')):
                continue
            base = os.path.basename(path)
            label = lookup(text, base.rsplit('.', 1)[0])
            if not label:
                continue
            info = about.get(base) or about.get(os.path.join(rel, base))
            if not info or not info[0]:
                unstated.append(path)
                continue
            stem = folder.split('/')[0].split('_')[-1] + '_' + folder.split('/')[-1] + '_' + base.rsplit('.', 1)[0]
            keep('gcompris', stem, label, files[path], info[0], (info[1] + '; ' + info[2]).strip('; '))
    stamps = os.path.join(work, 'tuxpaint-stamps-default/usr/share/tuxpaint/stamps')
    missing = []
    for folder, text in TUX.items():
        for stem, label in entries(text):
            path = os.path.join(stamps, folder, stem + '.png')
            if not os.path.exists(path):
                missing.append(path)
                continue
            keep('tuxpaint', folder.split('/')[-1] + '_' + stem, label, open(path, 'rb').read(), GPL,
                 'Bill Kendrick and Tux Paint contributors; %s/%s' % (folder, stem))
    head = 'file\tlabel\tsource\tlicence\tauthor\n'
    for tsv, chosen in [('pictures.tsv', rows)] + [('pictures-%s.tsv' % s, [r for r in rows if r[2] == s]) for s in ('gcompris', 'tuxpaint')]:
        with open(os.path.join(out, tsv), 'w', encoding='utf-8') as f:
            f.write(head + ''.join('\t'.join(' '.join(c.split()) for c in r) + '\n' for r in chosen))
    print(len(rows), 'pictures,', len({r[1] for r in rows}), 'labels')
    print('left out as duplicates or too small:', dropped)
    print('left out, README states no licence for them:', unstated)
    print('listed here but not in the package:', missing)

if __name__ == '__main__':
    main(*sys.argv[1:3])
